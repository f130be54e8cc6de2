"""Reader for COCO files."""
