"""The keypoints task."""
