"""Synthetic data: garments that are rendered, and trees of files in the layout of every raw format."""
