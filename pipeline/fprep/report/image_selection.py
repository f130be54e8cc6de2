"""Deterministic selection of the images on a page, spread over splits, classes, items and kinds of findings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from fprep.report.audit_findings import OtherTables, RowId, ShownFinding, choose_findings
from fprep.report.data import PageData, evenly, texts

_MAX_PER_ITEM = 6


@dataclass(frozen=True)
class Choice:
    """Row indices of `PageData.source.frame` by section, and findings."""

    sheets: dict[str, list[int]] = field(default_factory=dict[str, list[int]])  # split to row indices
    items: dict[str, list[int]] = field(default_factory=dict[str, list[int]])  # item to row indices
    findings: list[ShownFinding] = field(default_factory=list[ShownFinding])

    def rows(self) -> list[RowId]:
        """Return all rows without duplicates, in the order of their first use."""
        groups = [*self.sheets.values(), *self.items.values()]
        found = [("", number) for group in groups for number in group]
        found += [side.row for finding in self.findings for side in finding.sides if side.row is not None]
        return list(dict.fromkeys(found))


def choose(data: PageData, others: OtherTables, images: int) -> Choice:
    """Choose up to `images` images: half for contact sheets, a quarter each for items and findings.

    Contact sheets also get the images that items and findings do not use.
    """
    findings, items = choose_findings(data, others, images // 4), _items(data, images // 4)
    budget = images - sum(finding.num_images for finding in findings) - sum(map(len, items.values()))
    parts = {split: _numbered(data).filter(pl.col("split") == split) for split in data.splits}
    shares = allot({split: len(part) for split, part in parts.items()}, budget)
    sheets = {split: _spread(part, shares[split]) for split, part in parts.items() if shares[split]}
    return Choice(sheets, items, findings)


def allot(sizes: Mapping[str, int], budget: int) -> dict[str, int]:
    """Distribute a budget over groups as evenly as their sizes permit, larger ones first. Groups may get nothing."""
    shares = dict.fromkeys(sizes, 0)
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    if budget < len(order):  # mix common and rare groups
        order = [order[index] for index in evenly(len(order), budget)]
    while budget > 0:
        unfilled = [name for name in order if shares[name] < sizes[name]][:budget]
        if not unfilled:
            break
        for name in unfilled:
            shares[name] += 1
        budget -= len(unfilled)
    return shares


def _spread(frame: pl.DataFrame, wanted: int) -> list[int]:
    """Return row indices, evenly spaced within each class, class by class."""
    members = dict(frame.group_by("class").agg("number").sort("class").rows())
    shares = allot({name: len(rows) for name, rows in members.items()}, wanted)
    return [members[name][index] for name in members for index in evenly(len(members[name]), shares[name])]


def _numbered(data: PageData) -> pl.DataFrame:
    """Return index in the whole table, split and class of every row of the page."""
    keys = data.source.frame.select("key").with_row_index("number")
    numbers = data.frame.select("key").join(keys, on="key", how="left", maintain_order="left")["number"]
    column = data.class_column()
    if column is not None:
        classes = texts(data.frame, column)
    elif data.has("garments"):
        classes = data.frame["garments"].list.first().fill_null("")
    else:
        classes = pl.Series([""] * len(data.frame), dtype=pl.String)
    return pl.DataFrame({"number": numbers, "split": texts(data.frame, "split"), "class": classes})


def _items(data: PageData, budget: int) -> dict[str, list[int]]:
    """Choose evenly spaced items with several images, each with up to six from many splits and sources."""
    if not data.has("item") or budget < 2:
        return {}
    domain = texts(data.frame, "domain") if data.has("domain") else pl.lit("")
    frame = _numbered(data).with_columns(item=data.frame["item"], domain=domain).filter(pl.col("item") != "")
    several = frame.group_by("item").agg("number", "split", "domain").filter(pl.col("number").list.len() > 1)
    if several.is_empty():
        return {}
    rich = pl.col("split").list.n_unique() + pl.col("domain").list.n_unique()
    several = several.with_columns(rich=rich, size=pl.col("number").list.len().clip(0, 4)).sort("item")
    best = several.filter(pl.col("rich") == pl.col("rich").max())
    best = best.filter(pl.col("size") >= pl.col("size").max() - 1)
    chosen: dict[str, list[int]] = {}
    for item in evenly(len(best), max(1, budget // 3)):
        row = best.row(item, named=True)
        strata: dict[str, list[int]] = {}
        for number, split, domain in sorted(zip(row["number"], row["split"], row["domain"], strict=True)):
            strata.setdefault(f"{split}/{domain}", []).append(number)
        shares = allot({name: len(rows) for name, rows in strata.items()}, min(_MAX_PER_ITEM, budget))
        rows = [strata[name][index] for name in strata for index in evenly(len(strata[name]), shares[name])]
        if len(rows) < 2:
            break
        chosen[row["item"]] = rows
        budget -= len(rows)
    return chosen
