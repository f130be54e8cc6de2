"""Prediction with trained tasks: loading, detection of the garment, label mapping, prediction files."""
