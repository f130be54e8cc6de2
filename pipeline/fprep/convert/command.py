"""`fprep convert`: publish `table.parquet`, `rejected.parquet` and `report.json` (in this order) for a raw folder.

Reader, images, duplicates, splits, table rules: each step keeps a row, or rejects it with its location and the reason.
"""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from fprep.convert.conversion import Conversion
from fprep.convert.report import ConvertReport, evaluate, publish_conversion
from fprep.raw.folder import RawFolder
from fprep.readers.reader import check_mapping
from fprep.readers.registry import find_reader
from fschemas.failures import UsageError
from fschemas.folder_kinds import kind_of_folder
from fschemas.folders import claim_output
from fschemas.progress import Progress, no_progress
from fschemas.publish import exclusive


def convert(
    reader_name: str,
    raw: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    check_images: Literal["header", "full", "none"] = "full",
    on_reject: Literal["fail", "keep-going"] = "keep-going",
    max_rejected: float = 0.05,
    val_share: float = 0.1,
    test_share: float = 0.1,
    group_split: bool = False,
    follow_links: bool = False,
    mapping: Mapping[str, str] | None = None,
    workers: int = 0,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> ConvertReport:
    """Convert `raw` with the reader `reader_name` and publish table, rejected rows and report in the folder `out`.

    `check_images` is the thoroughness of the image check: none, header only, or a full decode of every pixel. With
    `on_reject="fail"`, a single rejected row prevents publication of the table; otherwise a share of rejected rows
    above `max_rejected` is an error after everything is published. `val_share` and `test_share` are split off train by
    group if the data set has no such splits; test only if there are no labeled test rows. `group_split` re-splits the
    data set so that no item, group or near-duplicate image is in two splits (`fprep.convert.group_split`). `limit`
    keeps that many rows, evenly spaced. `dry_run` publishes nothing. `follow_links` allows links that leave the raw
    folder; the table records it for commands that open the images later. `mapping` contains the reader's `--map`
    options.

    Raises `UsageError` for an invalid option or unusable input, `RejectedError` as described above and for an empty
    table, `EnvironmentProblem` if another process is writing to `out`, and `OSError` for disk errors.
    """
    reader, out = find_reader(reader_name), claim_output(Path(out), "table")
    _check_options(max_rejected, val_share, test_share, limit)
    check_mapping(reader, mapping or {})
    given = [raw] if isinstance(raw, str | Path) else raw
    folder = RawFolder.open([Path(path) for path in given], follow_links=follow_links)
    folder.mapping, folder.workers, folder.progress = dict(mapping or {}), workers, functools.partial(progress, "read")
    report = ConvertReport(reader.name, check_images)
    work = Conversion(reader, folder, report, progress, group_split)
    with contextlib.closing(folder):
        if dry_run:
            work.run(check_images, val_share, test_share, workers, limit)
        else:
            with exclusive(out):
                folder.scratch = out
                work.run(check_images, val_share, test_share, workers, limit)
                report.published = report.kept > 0 and not (on_reject == "fail" and report.rejected)
                options = {"images": check_images, "val_share": val_share, "test_share": test_share, "limit": limit}
                options |= {"group_split": True} if group_split else {}
                options |= {"follow_links": True} if follow_links else {}
                options |= {"mapping": dict(sorted(folder.mapping.items()))} if folder.mapping else {}
                progress("publish", 0, 1)
                publish_conversion(out, work.reader, folder, (rows for _, rows in work.rows()), report, options)
                progress("publish", 1, 1)
    evaluate(report, out, on_reject, max_rejected, dry_run=dry_run)
    return report


def _check_options(max_rejected: float, val_share: float, test_share: float, limit: int | None) -> None:
    if not 0 <= max_rejected <= 1:
        raise UsageError(f"--max-rejected {max_rejected}: expected a share between 0 and 1")
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        raise UsageError(
            f"--val-share {val_share} and --test-share {test_share}: expected shares that leave some rows for train"
        )
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1 row")


def refuse_outputs(raw: Sequence[Path]) -> None:
    """Raise `UsageError` if a raw folder is a run, a shard set or an index."""
    for path in raw:
        kind = kind_of_folder(path)
        if kind is not None and kind.name in ("run", "shards", "index"):
            raise UsageError(f"{path}: this is {kind.words}, not raw data; choose the folder of the unpacked archive")
