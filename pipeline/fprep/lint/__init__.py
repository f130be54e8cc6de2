"""`fprep lint`: checks of a finished shard set."""
