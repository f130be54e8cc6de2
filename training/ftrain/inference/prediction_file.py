"""JSON Lines files of `predict` and `query`, and the images that belong to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fschemas.failures import FashionkitError
from fschemas.json_file import parse_json, seal
from fschemas.publish import publish_bytes


def publish_predictions(path: Path, answers: list[dict[str, Any]], folder: str, field: str) -> None:
    """Write one line per prediction to `path`, and delete images of an earlier call that are not among the new ones.

    Each line carries its own digest (`seal`), because `fprep shard --boxes` reads these files. `field` of a prediction
    is the file name of its image in `folder`, beside `path`; nothing outside that folder is deleted.
    """
    before = _images_of(path, field)
    lines = "".join(json.dumps(seal(answer), ensure_ascii=False, allow_nan=False) + "\n" for answer in answers)
    publish_bytes(path, lines.encode())
    inside = (path.parent / folder).resolve()
    for name in before - {str(answer.get(field)) for answer in answers}:
        stale = (path.parent / name).resolve()
        if stale.is_relative_to(inside):
            stale.unlink(missing_ok=True)


def _images_of(path: Path, field: str) -> set[str]:
    """Images written by an earlier call; empty if its file is missing or unreadable."""
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else []
        return {
            answer[field]
            for answer in (parse_json(line, {f"{field}?": str}, source=str(path)) for line in lines)
            if field in answer
        }
    except (OSError, FashionkitError):
        return set()
