"""The command `ftrain summary`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.failures import UsageError
from fschemas.preflight import check_paths, check_run, check_shards
from ftrain.cli.options import AsJson, Overrides, Params, Profile

_SHARDS = "Shard set that defines classes and landmarks; by default the data set that the task was published on."


def summary(
    run: Annotated[Path | None, typer.Argument(help="Run folder; alternatively, use --task.")] = None,
    task: Annotated[str | None, typer.Option(help="Name of a task, if there is no run yet.")] = None,
    profile: Profile = None,
    params: Params = None,
    shards: Annotated[str | None, typer.Option(help=_SHARDS)] = None,
    overrides: Overrides = None,
    depth: Annotated[int, typer.Option(min=1, help="Depth of the module tree to show.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Print parameters, multiply-adds and output shapes by module."""
    from ftrain.fit.config import load_config
    from ftrain.fit.profiles import params_here

    if (run is None) == (task is None):
        raise UsageError("pass either a run folder or --task")
    check_run(run)
    check_shards(shards)
    check_paths([params], "no such file")
    if task is not None:
        load_config(task, params_here(params), profile, overrides or [])

    from ftrain.use.summary import network_of, summarize, summary_lines

    network, config = network_of(run, task, profile, params, shards, overrides or [])
    result = summarize(network, config, depth=depth)
    lines = list(summary_lines(result))
    if run is None and shards is None:
        lines.append(
            "for the classes and landmarks of the data set that the task was published on; use --shards for yours"
        )
    print_result(result, "\n".join(lines), as_json=as_json)
