"""Images found by their likeness: an index of embeddings on disk, exact and approximate search, color, re-ranking."""
