"""Image similarity search: an index of embeddings on disk, exact and approximate search, color, re-ranking."""
