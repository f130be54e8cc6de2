"""The command `ftrain compare`."""

from pathlib import Path
from typing import Annotated

import typer

from fschemas.command_line import print_result
from fschemas.folders import claim_output
from fschemas.preflight import check_paths, check_run
from ftrain.cli.options import AsJson

_OUT = "Folder for comparison.csv, comparison.json and comparison.png."
_EVALUATIONS = "Folder with the evaluations, named like the runs, as dvc.yaml writes them."


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders, two or more.")],
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    evaluations: Annotated[Path | None, typer.Option(help=_EVALUATIONS)] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: differing parameters, metrics with intervals."""
    for run in runs:
        check_run(run)
    check_paths([evaluations], "no such folder of evaluations")
    if out is not None:
        claim_output(out, "comparison")

    from ftrain.use.compare import compare_runs, comparison_lines

    comparison = compare_runs(runs, out, reports=evaluations)
    lines = [*comparison_lines(comparison), *([f"written to {out}"] if out else [])]
    print_result(comparison, "\n".join(lines), as_json=as_json)
