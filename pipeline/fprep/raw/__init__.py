"""Raw folders and the annotation files in them."""
