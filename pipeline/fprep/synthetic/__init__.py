"""Synthetic data: rendered garments, written in the raw layout of every supported data set."""
