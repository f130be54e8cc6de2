"""The retrieval task."""
