"""Reader for K-Fashion."""
