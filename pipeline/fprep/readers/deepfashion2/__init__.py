"""DeepFashion2."""
