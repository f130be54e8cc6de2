"""`ftrain`: train, evaluate, predict. One module per command.

Heavy modules are imported inside the commands to keep `--help` fast.
"""

from typing import Annotated

import typer

from fschemas.command_line import print_version, run_command
from fschemas.failures import ExitCode
from ftrain.cli import config
from ftrain.cli.compare import compare
from ftrain.cli.describe import describe
from ftrain.cli.doctor import doctor
from ftrain.cli.evaluate import evaluate
from ftrain.cli.export import export
from ftrain.cli.index import index
from ftrain.cli.join import join
from ftrain.cli.plan import plan
from ftrain.cli.predict import predict
from ftrain.cli.query import query
from ftrain.cli.submit import submit
from ftrain.cli.summary import summary
from ftrain.cli.train import training_command
from ftrain.tasks import task_names

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the start-up time, only to draw frames
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version.")
    ] = False,
) -> None:
    """Train, evaluate and use models from shard sets."""


CONTINUES = frozenset(task_names())  # training continues from its checkpoint
for name in task_names():
    app.command(name, rich_help_panel="Train")(training_command(name))
for command in (evaluate, submit, predict, describe, export, summary, compare, join, index, query):
    app.command(rich_help_panel="Use")(command)
for command in (doctor, plan):
    app.command(rich_help_panel="Check")(command)
app.add_typer(config.app, name="config", rich_help_panel="Use")


def main() -> None:
    """Entry point of the console script."""
    run_command(_run, "ftrain", CONTINUES)


def _run() -> object:
    result = app(standalone_mode=False)
    if result == ExitCode.INTERRUPTED:  # typer's exit code for Ctrl-C, without a message
        raise KeyboardInterrupt
    return result
