"""`ftrain config`: show the configuration."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fschemas.command_line import print_result, printable
from fschemas.preflight import check_paths
from ftrain.cli.options import AsJson, Overrides, Params, Profile, Section

if TYPE_CHECKING:
    from ftrain.fit.config_keys import ConfigKey

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the configuration of a task.")


@app.callback()
def _group() -> None:
    """Show the configuration of a task."""


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="Name of a task, such as keypoints.")],
    profile: Profile = None,
    params: Params = None,
    section: Section = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print every key with its value, default, type and help.

    Values other than the default are marked.
    """
    from ftrain.fit.config_keys import config_keys
    from ftrain.fit.profiles import params_here

    check_paths([params], "no such file")
    keys, source = config_keys(task, params_here(params), profile, overrides or [], section)
    if as_json:
        print_result({"task": task, "source": source, "keys": [asdict(key) for key in keys]}, "", as_json=True)
    else:
        _print_table(f"{task}: {source}", keys)


_WIDTH = 100  # columns of a terminal


def _print_table(title: str, keys: list[ConfigKey]) -> None:
    """Print two lines per key: its name, value, default and type, then its help."""
    defaults = {key.key: key.default for key in keys}
    rows = [("key", "value", "default", "type"), *(_cells(key, defaults) for key in keys)]
    widths = [min(limit, max(len(row[column]) for row in rows)) for column, limit in enumerate((40, 22, 22))]
    widths.append(_WIDTH - 2 - sum(width + 2 for width in widths))
    typer.echo(typer.style(printable(title), bold=True) + "; * is not the default\n")
    for key, row in zip([None, *keys], rows, strict=True):
        is_changed = key is not None and not _is_part(key) and key.key != "task" and key.value != key.default
        columns = [wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for number, cells in enumerate(zip_longest(*columns, fillvalue="")):
            mark = "* " if is_changed and number == 0 else "  "
            line = mark + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            typer.echo(typer.style(line.rstrip(), bold=is_changed))
        for line in wrap(key.help if key else "", _WIDTH - 4):
            typer.echo(typer.style(f"    {line}", dim=True))


def _is_part(key: ConfigKey) -> bool:
    return "[]" in key.key


def _cells(key: ConfigKey, defaults: dict[str, Any]) -> tuple[str, str, str, str]:
    value = "" if _is_part(key) else _shown(_other_than_default(key.value, f"{key.key}[].", defaults))
    default = "" if key.key == "task" else _shown(_other_than_default(key.default, f"{key.key}[].", defaults))
    return key.key, value, default, key.type


def _other_than_default(value: Any, prefix: str, defaults: dict[str, Any]) -> Any:
    """List entries without the values that are equal to their defaults."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        return value
    return [{name: part for name, part in entry.items() if part != defaults.get(prefix + name)} for entry in value]


def _shown(value: Any) -> str:
    """Format a value as `--set` takes it."""
    return printable(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False))
