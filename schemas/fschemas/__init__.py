"""The contract between `fprep` and `ftrain`: how tables, shard sets and finished files look."""
