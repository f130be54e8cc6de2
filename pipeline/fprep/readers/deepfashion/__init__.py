"""Readers of the five DeepFashion benchmarks, and the list formats that they share."""
