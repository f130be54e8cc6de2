"""The command `ftrain doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.failures import EnvironmentProblem
from fschemas.preflight import check_shards
from ftrain.cli.options import AsJson

_SHARDS = "Shard set whose images are decoded, too."


def doctor(shards: Annotated[str | None, typer.Option(help=_SHARDS)] = None, as_json: AsJson = False) -> None:
    """Measure this machine for a few seconds; recommend workers, image size and batch size."""
    check_shards(shards)

    from ftrain.lazy_imports import defer_unused

    defer_unused()
    from ftrain.use.doctor import doctor as run_doctor

    checkup = run_doctor(Path(), shards)
    print_result(checkup.to_json(), checkup.to_text(), as_json=as_json)
    if checkup.problems:
        raise EnvironmentProblem(f"training is impossible here: {'; '.join(checkup.problems)}")
