"""Parts of `fprep shard`."""
