"""The JSON lines of `predict` and `query`, and the images that belong to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fschemas.failures import FashionkitError
from fschemas.json_file import parse_json, seal
from fschemas.publish import publish_bytes


def publish_answers(path: Path, answers: list[dict[str, Any]], folder: str, field: str) -> None:
    """Write a line an answer into `path`, and remove the images of an earlier call that the new one does not have.

    Each line bears its own digest (`seal`), because `fprep shard --boxes` makes shards of the answers.
    `field` of an answer names its image, which is in `folder` beside the file; nothing outside of that is removed.
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
    """The images that an earlier call wrote; none where there is no readable account of them."""
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else []
        return {
            answer[field]
            for answer in (parse_json(line, {f"{field}?": str}, place=str(path)) for line in lines)
            if field in answer
        }
    except (OSError, FashionkitError):
        return set()
