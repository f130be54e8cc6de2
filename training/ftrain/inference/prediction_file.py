"""JSON Lines files of `predict` and `query`, and the images that belong to them."""

import json
from pathlib import Path
from typing import Any

from fschemas.failures import FashionkitError, RejectedError
from fschemas.json_file import parse_json, seal
from fschemas.publish import publish_bytes
from fschemas.wording import count


def publish_predictions(path: Path, predictions: list[dict[str, Any]], folder: str, field: str) -> None:
    """Write one line per prediction to `path`, and delete images of an earlier call that are not among the new ones.

    Each line carries its own digest (`seal`), because `fprep shard --boxes` reads these files. `field` of a prediction
    is the file name of its image in `folder`, next to `path`; nothing outside that folder is deleted.
    """
    before = _images_of(path, field)
    lines = (json.dumps(seal(prediction), ensure_ascii=False, allow_nan=False) for prediction in predictions)
    publish_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    inside = (path.parent / folder).resolve()
    for name in before - {str(prediction.get(field)) for prediction in predictions}:
        stale = (path.parent / name).resolve()
        if stale.is_relative_to(inside):
            stale.unlink(missing_ok=True)


def refuse_unreadable(predictions: list[dict[str, Any]], path: Path) -> None:
    """Raise `RejectedError` (exit code 3) if some images could not be read; `path` is the file of `predictions`."""
    failed = [prediction for prediction in predictions if "error" in prediction]
    if failed:
        name, error = failed[0].get("image") or failed[0]["key"], failed[0]["error"]
        total = count(len(predictions), "image")
        raise RejectedError(
            f"{name}: {error}; {len(failed)} of {total} cannot be used; the results of the others are in {path}"
        )


def _images_of(path: Path, field: str) -> set[str]:
    """Images written by an earlier call; empty if its file is missing or unreadable."""
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else []
        return {
            prediction[field]
            for prediction in (parse_json(line, {f"{field}?": str}, source=str(path)) for line in lines)
            if field in prediction
        }
    except (OSError, FashionkitError):
        return set()
