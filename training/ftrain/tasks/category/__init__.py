"""The category task."""
