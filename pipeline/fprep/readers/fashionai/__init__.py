"""Readers for FashionAI: keypoints and attributes."""
