"""The pipeline: raw fashion annotation files to validated tables and to WebDataset shards."""
