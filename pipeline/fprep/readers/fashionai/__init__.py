"""FashionAI: keypoints and attributes."""
