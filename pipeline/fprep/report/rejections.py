"""Sections about problems: rejected rows by rule with examples, and rows kept with a warning."""

from typing import Any

from fprep.report.charts import Panel, bars_of
from fprep.report.data import PageData
from fprep.report.page import Section, section
from fschemas.wording import count

_EXAMPLES = 5
_RAW = 160  # maximum bytes of a raw line to show


def rejected_section(data: PageData) -> Section | None:
    """Section of rejected rows by rule, with file:line, message and raw bytes of the first ones."""
    if not data.report:
        return None
    by_rule: dict[str, int] = data.report.get("rejected_by_rule") or {}
    title = f"{count(sum(by_rule.values()), 'row')} by rule"
    panel = Panel(title, bars_of(by_rule, "bad"), "the first rule that a row broke", wide=True)
    examples: dict[str, list[tuple[str, str, str]]] = {bar.label: [] for bar in panel.rows}
    first = data.rejected.group_by("rule", maintain_order=True).head(_EXAMPLES) if data.rejected is not None else None
    for row in first.iter_rows(named=True) if first is not None else ():
        raw: bytes = row.get("raw") or b""
        location = f"{row['source_file']}:{row['source_line']}"
        shown = raw[:_RAW].decode("utf-8", errors="replace") + ("…" if len(raw) > _RAW else "")
        examples.setdefault(row["rule"], []).append(
            (location, str(row["message"]).removeprefix(f"{location}: "), shown)
        )
    rules = [(bar.label, by_rule[bar.label], examples[bar.label]) for bar in panel.rows]
    return section("rejected", "Rejected rows", panel=panel, rules=rules)


def warning_section(data: PageData) -> Section | None:
    """Section of rows kept with a warning, with examples, and the notes of the conversion."""
    warnings: dict[str, int] = data.report.get("warnings") or {}
    notes: list[Any] = data.report.get("notes") or []
    if not warnings and not notes:
        return None
    panel = Panel("Kept with a warning", bars_of(warnings, "odd"), wide=True)
    examples = data.report.get("warning_examples") or {}
    return section("warnings", "Warnings and notes", panel=panel, examples=examples, notes=notes)
