"""File formats shared by `fprep` and `ftrain`: tables, shard sets and the publishing of finished files."""
