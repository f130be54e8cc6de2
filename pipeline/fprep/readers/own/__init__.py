"""A user's own images: folders of classes, or a table."""
