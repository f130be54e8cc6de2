"""`list_description_inshop.json` of DeepFashion In-shop: an array of `{item, color, description: [sentences]}`.

The README says "each row", but the released file is a JSON array with an indent of four. Records are parsed one by one,
so that a damaged record affects only itself, and every line is accounted for. A third of the items was photographed in
several colors, but a record has only one color: it is used only for items with a single variant, or if it matches the
color of the image.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

import polars as pl

from fprep.raw.folder import MAX_LINE, RawFile, RawFolder
from fschemas.failures import UsageError

_BLANK = re.compile(r"[ \t\r\n]*")
_NEXT_RECORD = re.compile(r"\n[ \t]*\{")
_ITEM = re.compile(r"id_[0-9]{8}")
_FIELDS = ("item", "color", "description")

Description = tuple[str, str]  # color; sentences joined by line feeds


def read_descriptions(raw: RawFolder, path: Path) -> pl.DataFrame:
    """Return columns item, color and description, one row per item and color.

    A damaged record is rejected at its first line. If an item and color has two different descriptions, both are
    ignored, with a warning. Raises `UsageError` for a file that is not an array.
    """
    file = raw.open_file(path)
    text, num_lines = _text_of(file)
    found: dict[tuple[str, str], str] = {}
    refused: set[int] = set()  # lines; a line is rejected once, even if it contains several records
    position, number, counted = _blank(text, 0), 1, 0
    if text[position : position + 1] != "[":
        raise UsageError(f"{file.name}: not a JSON array of {{item, color, description}}; restore it from the archive")
    position = _blank(text, position + 1)
    while position < len(text) and text[position] == "{":
        number, counted = number + text.count("\n", counted, position), position
        (item, (color, description)), end, problem = _record(text, position)
        if problem and number not in refused:
            beginning = text[position : position + 60].partition("\n")[0]
            raw.reject(file.line(number), "bad_description", problem, column="description", found=beginning)
            refused.add(number)
        elif not problem and found.setdefault((item, color), description) != description:
            found[item, color] = ""
            raw.warn("conflicting_description", file.line(number))
        position = _after(text, end)
    if position >= len(text) or text[position] != "]":
        raw.warn("description_file_cut", file.name)
    file.accounts["joined"] += num_lines - len(refused)
    rows = [(item, color, description) for (item, color), description in found.items()]
    return pl.DataFrame(rows, {"item": pl.String, "color": pl.String, "description": pl.String}, orient="row")


def add_descriptions(frame: pl.DataFrame, records: pl.DataFrame, *, has_colors: bool) -> pl.DataFrame:
    """Add the column description, by `item`, `color` and `variant`; without a color list, also the color."""
    same = records.rename({"description": "of_color"})
    agreed = records.group_by("item").agg(
        pl.col("description").first().alias("of_item"),
        pl.col("description").n_unique().alias("num_descriptions"),
        pl.col("color").first().alias("item_color"),
        pl.col("color").n_unique().alias("num_colors"),
    )
    frame = frame.join(same, on=["item", "color"], how="left", maintain_order="left")
    frame = frame.join(agreed, on="item", how="left", maintain_order="left")
    alone = pl.when(pl.col("num_descriptions") == 1).then("of_item")
    frame = frame.with_columns(pl.coalesce("of_color", alone, pl.lit("")).alias("description"))
    if not has_colors:
        single = (pl.col("variant").n_unique().over("item") == 1) & (pl.col("num_colors") == 1)
        frame = frame.with_columns(pl.when(single).then("item_color").otherwise(pl.lit("")).alias("color"))
    return frame.drop("of_color", "of_item", "num_descriptions", "item_color", "num_colors")


def _text_of(file: RawFile) -> tuple[str, int]:
    lines = list(file.lines())
    contents = [b""] * len(file)
    for line in lines:
        if len(line.content) > MAX_LINE:
            raise UsageError(f"{line}: more than {MAX_LINE} bytes; restore the file, which has one value per line")
        contents[line.number - 1] = line.content
    return b"\n".join(contents).decode("utf-8", "replace"), len(lines)


def _blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    assert match is not None
    return match.end()


def _after(text: str, end: int) -> int:
    """Return the position of the next record (after a comma) or of the closing bracket, skipping invalid JSON."""
    position = _blank(text, end)
    if text[position : position + 1] == ",":
        position = _blank(text, position + 1)
    if position < len(text) and text[position] not in "{]":
        following = _NEXT_RECORD.search(text, position)
        return following.end() - 1 if following else len(text)
    return position


def _record(text: str, position: int) -> tuple[tuple[str, Description], int, str]:
    """Return the record at `position`, its end, and its problem."""
    nothing = ("", ("", ""))
    try:
        value, end = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        following = _NEXT_RECORD.search(text, position + 1)
        return nothing, following.start() if following else len(text), "the record is not a JSON object"
    fields = cast("dict[str, Any]", value)
    item, color, sentences = (fields.get(name) for name in _FIELDS)
    if not isinstance(item, str) or _ITEM.fullmatch(item) is None:
        return nothing, end, f"the item is {str(item)[:40]!r}, expected id_ and eight digits"
    if color is not None and not isinstance(color, str):
        return nothing, end, f"the color of {item} is not text"
    if isinstance(sentences, str):
        sentences = [sentences]
    if not isinstance(sentences, list) or not all(isinstance(part, str) for part in cast("list[object]", sentences)):
        return nothing, end, f"the description of {item} is not a list of texts"
    parts = [part.strip() for part in cast("list[str]", sentences)]
    description = ((color or "").strip(), "\n".join(part for part in parts if part))
    if any("\ud800" <= letter <= "\udfff" or letter == "\ufffd" for letter in "".join(description)):
        return nothing, end, f"the color or description of {item} is not valid UTF-8"
    return (item, description), end, ""
