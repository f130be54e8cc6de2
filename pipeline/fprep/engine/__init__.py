"""Run many tasks on local processes: `map_tasks(work, tasks)` yields results in task order."""

from fprep.engine.local import advance, map_tasks

__all__ = ["advance", "map_tasks"]
