"""Streaming trainers that read shard sets: stream, loop, tasks, metrics."""

from fschemas.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()  # here, as every way to torch leads through this file, and OpenMP reads its settings when it is loaded
