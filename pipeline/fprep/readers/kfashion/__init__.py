"""K-Fashion."""
