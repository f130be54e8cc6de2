"""`fprep export`: a table in the format of another tool, published as one folder.

The formats are modules of `fprep.export`. The same table, images and options give the same bytes. `export.json` records
the source and a digest of the folder; an intact export is not written again.
"""

import hashlib
import importlib
import json
import os
import pkgutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

import fprep.export
from fprep.convert.source_table import SourceTable
from fprep.export.job import ExportJob, ExportOptions, size_of
from fschemas.failures import IntegrityError, UsageError, did_you_mean
from fschemas.folders import claim_output
from fschemas.json_file import read_json
from fschemas.publish import new_folder, publish, publish_sealed, sha256_of
from fschemas.walk import is_junk
from fschemas.wording import count

RECEIPT = "export.json"
FORMAT = "fashionkit-export/1"
_USED_BY = {"copy": ("yolo-pose",), "include_images": ("hf",), "predictions": ("label-studio",)}


class Format(Protocol):
    """Interface of a format module of `fprep.export`."""

    def write(self, job: ExportJob, folder: Path) -> None:
        """Write the export into the empty `folder`."""
        ...


def formats() -> dict[str, Format]:
    """Return all formats by name: the modules of `fprep.export` with a function `write`."""
    found: dict[str, Format] = {}
    for info in pkgutil.iter_modules(fprep.export.__path__):
        module = importlib.import_module(f"fprep.export.{info.name}")
        if hasattr(module, "write"):
            found[info.name.replace("_", "-")] = cast("Format", module)
    return dict(sorted(found.items()))


def find_format(name: str) -> Format:
    """Return the format of that name. Raises `UsageError` with the nearest match."""
    known = formats()
    if name not in known:
        raise UsageError(f"unknown format {name!r}; {did_you_mean(name, known)}choose from {', '.join(known)}")
    return known[name]


def export(
    table: Path,
    out: Path,
    to: str,
    *,
    images: Path | None = None,
    copy: bool = False,
    include_images: bool = False,
    predictions: bool = False,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Export `table` (a file or its folder) in the format `to` to the folder `out`, and return a summary.

    `images` replaces the raw root stored in the table. `copy` (yolo-pose) copies images instead of linking them,
    `include_images` (hf) includes images that their license does not allow to redistribute, `predictions`
    (label-studio) writes labels as predictions to be corrected. `limit` is the number of evenly spaced rows.
    `progress(done, total)` counts images.

    Raises `UsageError` for an unknown format, an option or table that the format does not support, and an `out` with
    other content; `IntegrityError` for a damaged table or a changed image; `OSError`.
    """
    writer = find_format(to)
    options = ExportOptions(copy, include_images, predictions, limit)
    for name, users in _USED_BY.items():
        if getattr(options, name) and to not in users:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is an option of {', '.join(users)}, not of {to}; omit it")
    out = claim_output(Path(out), "export")
    source = SourceTable.open(Path(table))
    job = ExportJob(source, options, out, images)
    done, total = 0, sum(map(len, job.splits.values()))

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None and (done % 100 == 0 or done >= total):
            progress(done, total)

    job.progress = tick
    content = {"export": FORMAT, "to": to, "table_sha256": source.sha256, "options": asdict(options)}
    plan_id = hashlib.sha256(
        json.dumps(content, sort_keys=True).encode()
    ).hexdigest()  # of all that decides the content
    summary = {
        "format": to, "dataset": job.name, "rows": len(job.numbers), "images": total,
        "splits": {split: len(rows) for split, rows in job.splits.items()},
    }  # fmt: skip
    unchanged = _existing(out) == plan_id
    if unchanged or dry_run:
        _check_output(out, unchanged=unchanged)
        return {**summary, "counts": {}, "files": 0, "bytes": 0, "notes": [], "unchanged": unchanged}
    with new_folder(out):
        _check_output(out, unchanged=False)
        with publish(out) as folder:
            folder.mkdir()
            writer.write(job, folder)
            found = {"counts": job.counts, "notes": job.notes, "content_sha256": _digest_of(folder)}
            publish_sealed(folder / RECEIPT, {"id": plan_id, **content, **summary, **found})
            files, size = size_of(folder)
    return {**summary, "counts": job.counts, "files": files, "bytes": size, "notes": job.notes, "unchanged": False}


def describe(summary: dict[str, Any], out: Path, *, dry_run: bool) -> str:
    """Return the summary as a few lines of text."""
    splits = ", ".join(f"{count} {split}" for split, count in summary["splits"].items())
    what = f"{summary['dataset']} as {summary['format']}, {count(summary['rows'], 'row')}, images {splits}"
    if summary["unchanged"]:
        return f"{out}: nothing to do: {what}"
    if dry_run:
        return f"{out}: would be written: {what}"
    counts = ", ".join(f"{count} {name}" for name, count in summary["counts"].items())
    size = f"{count(summary['files'], 'file')}, {summary['bytes'] / 1e6:.1f} MB"
    return "\n".join([f"{out}: {what}: {counts}; {size}", *(f"note: {note}" for note in summary["notes"])])


def _existing(out: Path) -> str | None:
    """Return the id of the export in a folder. Raises `IntegrityError` if one of its files has changed."""
    if not (out / RECEIPT).exists():
        return None
    again = "remove the folder and run `fprep export` again"
    receipt = read_json(out / RECEIPT, {"id": str, "content_sha256?": str}, sealed=True, remedy=again)
    if receipt.get("content_sha256", _digest_of(out)) != _digest_of(out):
        raise IntegrityError(f"{out}: a file was changed, removed or added since the export was written; {again}")
    return str(receipt["id"])


def _digest_of(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of an export (of links: names only), without its receipt.

    Files added by others are ignored: hidden files, and label caches of YOLO trainers.
    """
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not (is_junk(name) or name.startswith(".") or name.endswith(".cache") or path == folder / RECEIPT):
                content = "a link" if path.is_symlink() else sha256_of(path)
                digest.update(f"{content} {path.relative_to(folder).as_posix()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _check_output(out: Path, *, unchanged: bool) -> None:
    if not unchanged and out.is_dir() and any(out.iterdir()):
        what = "an export of another table or with other options" if _existing(out) else "neither empty nor an export"
        raise UsageError(f"{out}: {what}; remove it or choose another folder")
