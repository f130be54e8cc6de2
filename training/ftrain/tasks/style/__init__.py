"""The style task."""
