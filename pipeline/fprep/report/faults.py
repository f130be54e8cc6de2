"""Sections of what is wrong: rejected rows by rule with their first examples, and what was kept with a warning."""

from __future__ import annotations

from typing import Any

import polars as pl

from fprep.report.charts import Bar, bars, panel
from fprep.report.data import PageData
from fprep.report.html import Markup, Section, details, element, join, table
from fschemas.wording import count

_EXAMPLES = 5
_WARNINGS = 10
_RAW = 160  # bytes of a raw line that are shown


def rejected_section(data: PageData) -> Section | None:
    """Rejected rows by rule, with file:line, message and raw bytes of the first of each."""
    report, rejected = data.report, data.rejected
    if not report:
        return None
    by_rule: dict[str, int] = report.get("rejected_by_rule") or {}
    if not by_rule:
        return Section("rejected", "Rejected rows", element("p", "No row was rejected.", class_="good-news"))
    ordered = sorted(by_rule.items(), key=lambda entry: (-entry[1], entry[0]))
    rows = [Bar(rule, [("bad", number, count(number))], count(number)) for rule, number in ordered]
    total = sum(by_rule.values())
    blocks = [panel(f"{count(total, 'row')} by rule", bars(rows), "the first rule that a row broke", wide=True)]
    if rejected is not None:
        blocks += [_examples(rejected.filter(pl.col("rule") == rule), rule, number) for rule, number in ordered]
    return Section("rejected", "Rejected rows", join(blocks))


def _examples(rows: pl.DataFrame, rule: str, number: int) -> Markup | None:
    if rows.is_empty():
        return None
    lines: list[tuple[object, ...]] = []
    for row in rows.head(_EXAMPLES).iter_rows(named=True):
        raw: bytes = row.get("raw") or b""
        shown = raw[:_RAW].decode("utf-8", errors="replace") + ("…" if len(raw) > _RAW else "")
        place = f"{row['source_file']}:{row['source_line']}"
        lines.append((place, str(row["message"]).removeprefix(f"{place}: "), shown))
    first = element("small", lines[0][1])
    title = join([element("b", rule), f" {count(number, 'row')} ", first])
    shown = element("p", f"the first {_EXAMPLES}", class_="faint") if number > _EXAMPLES else None
    return details(title, table(("place", "message", "raw line"), lines, codes=(0, 2)), shown)


def _warning(name: str, examples: list[Any]) -> Markup:
    """The first example stands open, the others can be unfolded."""
    title = join([element("b", name), " ", element("small", examples[0])])
    if len(examples) == 1:
        return element("p", title, class_="single")
    return details(title, element("ul", *(element("li", example) for example in examples[:_WARNINGS])))


def warning_section(data: PageData) -> Section | None:
    """What was kept although it is odd, with examples, and the notes of the conversion."""
    report = data.report
    warnings: dict[str, int] = report.get("warnings") or {}
    examples: dict[str, list[Any]] = report.get("warning_examples") or {}
    notes: list[Any] = report.get("notes") or []
    blocks: list[Markup] = []
    if warnings:
        ordered = sorted(warnings.items(), key=lambda entry: (-entry[1], entry[0]))
        rows = [Bar(name, [("odd", number, count(number))], count(number)) for name, number in ordered]
        blocks.append(panel("Kept with a warning", bars(rows), wide=True))
        blocks += [_warning(name, examples[name]) for name, _ in ordered if examples.get(name)]
    if notes:
        blocks += [element("h3", "Notes"), element("ul", *(element("li", note) for note in notes[:50]), class_="notes")]
    return Section("warnings", "Warnings and notes", join(blocks)) if blocks else None
