"""Detection of near-duplicate images, used by convert (splits) and audit."""
