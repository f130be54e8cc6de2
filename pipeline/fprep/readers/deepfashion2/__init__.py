"""Reader for DeepFashion2."""
