"""The command `ftrain plan`."""

from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.preflight import check_shards
from ftrain.cli.options import AsJson, Device, Overrides, Params, Profile, Section, Shards, Threads, Transforms, Workers
from ftrain.tasks import check_task_name


def plan(
    shards: Shards,
    task: Annotated[str, typer.Argument(help="Name of a task, such as keypoints.")],
    params: Params = None,
    section: Section = None,
    profile: Profile = None,
    overrides: Overrides = None,
    workers: Workers = None,
    threads: Threads = None,
    device: Device = "auto",
    transforms: Transforms = "auto",
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Duration of measuring, approximately.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Measure a training run for ten seconds; predict its speed, bottleneck, duration, disk and memory."""
    from ftrain.fit.config import load_config
    from ftrain.fit.profiles import params_here

    params = params_here(params)
    check_shards(shards)
    check_task_name(task)  # a joined task has a configuration, but is not trained
    load_config(task, params, profile, overrides or [], section)

    from ftrain.use.rehearsal import PlanOptions
    from ftrain.use.rehearsal import plan as run_plan

    options = PlanOptions(
        shards, params, profile, tuple(overrides or ()), section, workers, threads, device, transforms, seconds
    )
    forecast = run_plan(task, options)
    print_result(forecast.to_json(), forecast.to_text(), as_json=as_json)
