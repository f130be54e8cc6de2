"""Readers for a user's own images: class folders, or a table."""
