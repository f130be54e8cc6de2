"""`fprep`: convert raw annotation files to tables and shards. One module per command.

Heavy modules are imported inside the commands to keep `--help` fast.
"""

from typing import Annotated

import typer

from fprep.cli.audit import audit
from fprep.cli.convert import convert
from fprep.cli.doctor import doctor
from fprep.cli.export import export
from fprep.cli.lint import lint
from fprep.cli.readers import readers
from fprep.cli.report import report
from fprep.cli.sample import sample
from fprep.cli.shard import shard
from fschemas.command_line import print_version, run_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the start-up time, only to draw frames
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version.")
    ] = False,
) -> None:
    """Raw fashion annotation files to validated tables and WebDataset shards."""


for command in (sample, convert, readers, shard, lint, doctor, export, report, audit):
    app.command()(command)

_CONTINUES = frozenset({"shard"})  # commands that keep finished work when run again


def main() -> None:
    """Entry point of the console script."""
    run_command(lambda: app(standalone_mode=False), "fprep", _CONTINUES)
