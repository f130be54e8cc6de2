"""JSON documents of annotations: what is no document, and why a part of one is refused."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, cast

from fprep.raw.file import encoding_fault


class Fault(NamedTuple):
    """Why an item is refused: the rule, the sentence, the column and what was found."""

    rule: str
    message: str
    column: str = ""
    found: str = ""


def parse_document(content: bytes) -> dict[str, Any] | Fault:
    """The JSON object in `content`; NaN, Infinity, other encodings and what is no object are a fault."""
    if not content.strip():
        return Fault("empty_file", "the file is empty")
    try:
        document = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse)
    except UnicodeDecodeError:
        return Fault("bad_encoding", encoding_fault(content))
    except (ValueError, RecursionError) as error:
        return Fault("bad_json", f"this is not JSON ({str(error)[:100] or 'nested too deeply'})")
    if not isinstance(document, dict):
        return Fault("bad_json", "this is JSON, but no object")
    return cast("dict[str, Any]", document)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")
