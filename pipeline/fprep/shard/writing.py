"""Parallel writing of the planned shards: one task per shard, with bytes that do not depend on the worker.

Tasks refer to their rows in a temporary Arrow file with one batch per shard, which all workers memory-map.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from fprep.convert.source_table import SourceTable
from fprep.engine import advance, map_tasks
from fprep.shard.plan import PlannedShard
from fprep.shard.sample import SampleMaker, SampleOptions
from fschemas.failures import EnvironmentProblem
from fschemas.publish import set_filename, temporary_of
from fschemas.shard import Sample, ShardRecord, record_path, write_shard

Task = tuple[int, PlannedShard]  # (index of the batch of rows, shard)
_STEP = 16  # samples between progress reports
_TIMEOUT = 600.0  # seconds that this many samples may take


def write_shards(
    out: Path,
    plan_id: str,
    options: SampleOptions,
    source: SourceTable,
    shards: Sequence[PlannedShard],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, ShardRecord]:
    """Write the planned `shards` of a table and return their records by name. `progress(done, total)` counts samples.

    `workers` is the number of processes (0: one per core; 1: run in this process). Errors of a worker are re-raised
    here after the others have stopped. Raises `EnvironmentProblem` if a worker dies or is silent for ten minutes.
    """

    def crashed(task: Task, reason: str) -> NoReturn:
        raise EnvironmentProblem(
            f"{out}: a worker failed while {task[1].name} was written ({reason}, perhaps out of memory); "
            "use fewer workers and run the command again: finished shards are kept"
        )

    with _rows_on_disk(out, source, shards) as rows:
        records = map_tasks(
            _ShardWriter(out, plan_id, options, rows), list(enumerate(shards)), crashed=crashed, workers=workers, trusted=True,
            timeout=_TIMEOUT, chunk=1, units=lambda task: len(task[1].rows), progress=progress,
        )  # fmt: skip
        return {record.name: record for record in records}


@contextmanager
def _rows_on_disk(out: Path, source: SourceTable, shards: Sequence[PlannedShard]) -> Generator[Path]:
    path = temporary_of(out / "rows.arrow")
    try:
        with open(path, "wb") as file, pa.ipc.new_file(file, source.selected(()).to_arrow().schema) as writer:
            for planned in shards:
                writer.write_table(source.selected(planned.rows).to_arrow().combine_chunks())
        yield path
        path.unlink()
    except BaseException as error:
        with suppress(OSError):  # report the first error only
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            set_filename(error, out)
        raise


@dataclass(frozen=True)
class _ShardWriter:
    out: Path
    plan_id: str
    options: SampleOptions
    rows: Path

    @cached_property
    def maker(self) -> SampleMaker:  # created by the first task, so that an error in the recipe is raised as such
        return SampleMaker(self.options)

    def __call__(self, task: Task) -> ShardRecord:
        batch, planned = task
        # Otherwise the record of an old shard could validate the new one.
        record_path(self.out, planned.name).unlink(missing_ok=True)
        with pa.memory_map(str(self.rows)) as source:
            rows: list[dict[str, Any]] = pa.ipc.open_file(source).get_batch(batch).to_pylist()

        def samples() -> Iterator[Sample]:
            for number, (row, copy) in enumerate(zip(rows, planned.copies, strict=True), 1):
                yield self.maker(row, copy)
                if number % _STEP == 0:
                    advance(_STEP)

        return write_shard(self.out, planned.name, planned.split, self.plan_id, samples())
