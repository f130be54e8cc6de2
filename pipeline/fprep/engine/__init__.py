"""Run many tasks: `map_tasks(work, tasks)`, in order, on processes of this machine."""

from fprep.engine.local import advance, map_tasks

__all__ = ["advance", "map_tasks"]
