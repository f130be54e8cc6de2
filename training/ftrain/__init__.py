"""Streaming trainers that read shard sets: stream, loop, tasks, metrics."""
