"""`fprep shard`: write a table as a shard set."""
