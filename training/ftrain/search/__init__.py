"""Images found by their similarity: an index of embeddings on disk, exact and approximate search, color, re-ranking."""
