"""The command `fprep convert`. Heavy modules are imported inside it to keep `--help` fast."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fprep.cli.options import AsJson, DryRun, FollowLinks, Limit, Quiet, Workers
from fschemas.command_line import print_result
from fschemas.failures import UsageError
from fschemas.preflight import check_paths
from fschemas.wording import count

_CHECK_IMAGES = "How thoroughly to check images."
_GROUP_SPLIT = "Make new splits that keep items, groups and near-identical images together."
_MAX_REJECTED = "Exit with code 3 if more than this fraction of the rows is rejected."
_PATHS = "Raw folders or files, then the folder to write."
_RAW_FROM = "Read RAW from a key of a YAML file, such as params.yaml:datasets.kfashion.raw."
_TEST_SHARE = "Fraction of train to use as test if there are no labeled test rows."
_VAL_SHARE = "Fraction of train to use as val if the data set has no val split."
_MAP_HELP = (
    "How to interpret your own files; repeatable. csv: image, category, style, substyle, item, group, split, domain, attributes=COLUMN, "
    "box=x1,y1,x2,y2, box-form, unit, axes, orientation, folder, delimiter, rows. folders: category, style, item, group, split. coco: "
    "box-form, unit, axes, orientation. kfashion: polygons. Readers of coordinates: orientation. `fprep readers` explains each."
)


def convert(
    dataset: Annotated[str, typer.Argument(help="Reader, such as fashionai-keypoints; see `fprep readers`.")],
    paths: Annotated[list[Path], typer.Argument(metavar="RAW... OUT", help=_PATHS)],
    check_images: Annotated[Literal["header", "full", "none"], typer.Option(help=_CHECK_IMAGES)] = "full",
    on_reject: Annotated[
        Literal["fail", "keep-going"], typer.Option(help="What to do if a row is rejected.")
    ] = "keep-going",
    max_rejected: Annotated[float, typer.Option(min=0, max=1, help=_MAX_REJECTED)] = 0.05,
    val_share: Annotated[float, typer.Option(min=0, max=0.9, help=_VAL_SHARE)] = 0.1,
    test_share: Annotated[float, typer.Option(min=0, max=0.9, help=_TEST_SHARE)] = 0.1,
    group_split: Annotated[bool, typer.Option("--group-split", help=_GROUP_SPLIT)] = False,
    raw_from: Annotated[str | None, typer.Option(metavar="FILE:KEY", help=_RAW_FROM)] = None,
    follow_links: FollowLinks = False,
    mapping: Annotated[list[str] | None, typer.Option("--map", metavar="KEY=VALUE", help=_MAP_HELP)] = None,
    workers: Workers = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Convert raw files to a validated table and rejected rows."""
    if len(paths) > 1:
        if "/" in dataset:
            from fprep.cli.wrong_folder import refuse_path

            refuse_path(dataset)
        swapped = f" (or swap the arguments: {paths[-1]} exists, and the folder to write comes last)"
        hint = swapped if paths[-1].is_dir() else ""
        check_paths(paths[:-1], f"no such file or folder; choose the unpacked archive{hint}")

    from fprep.cli.params_file import raw_and_out
    from fprep.cli.wrong_folder import input_hint
    from fprep.convert.command import convert as run_convert
    from fprep.convert.command import refuse_outputs
    from fprep.convert.report import ConversionRejected
    from fprep.readers.reader import read_mapping
    from fprep.readers.registry import find_reader
    from fschemas.progress import Reporter

    raw, out = raw_and_out(paths, raw_from)
    options = read_mapping(find_reader(dataset), mapping or [])
    refuse_outputs(raw)
    failure: ConversionRejected | None = None
    with Reporter(quiet=quiet) as report:
        try:
            found = run_convert(
                dataset, raw, out, check_images=check_images, on_reject=on_reject, max_rejected=max_rejected, val_share=val_share,
                test_share=test_share, group_split=group_split, follow_links=follow_links, mapping=options, workers=workers or 0, limit=limit,
                dry_run=dry_run, progress=report,
            )  # fmt: skip
        except ConversionRejected as error:
            found, failure = error.report, error
        except UsageError as error:
            about_an_option = str(error).startswith("--")  # not about the folder
            raise UsageError(f"{error}{'' if about_an_option else input_hint(dataset, raw, out)}") from None
    if failure is not None and not found.kept:
        failure = ConversionRejected(found, f"{failure}{input_hint(dataset, raw, out)}")
    values = found.to_json()
    print_result(values, "\n".join(_lines(values, out, found.published, dry_run)), as_json=as_json)
    if failure is not None:
        raise failure


def _lines(values: dict[str, Any], out: Path, published: bool, dry_run: bool) -> list[str]:
    rules, warnings = (
        ", ".join(f"{name} {number}" for name, number in values[key].items())
        for key in ("rejected_by_rule", "warnings")
    )
    splits = "".join(f", {number} {split}" for split, number in values["splits"].items())
    rows = f"{count(values['kept'], 'row')} of {count(values['lines'], 'line')}{splits}"
    return [
        f"{out}/table.parquet: {rows}" if published or dry_run else f"no table: {rows}",
        *([f"recognized: {', '.join(values['variants'])}"] if values["variants"] else []),
        *([f"{out}/rejected.parquet: {count(values['rejected'], 'row')}: {rules}"] if rules else []),
        *([f"kept with a warning: {warnings}"] if warnings else []),
        *[f"note: {note}" for note in values.get("notes", [])],
        *([f"next: fprep report {shlex.quote(str(out))} report.html"] if published else []),
    ]
