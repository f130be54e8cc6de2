"""Data loading: shards, training plan, worker processes and augmented views."""
