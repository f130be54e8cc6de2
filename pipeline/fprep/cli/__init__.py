"""`fprep`: convert raw annotation files to tables and shards.

Heavy modules are imported inside the commands to keep `--help` fast.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fprep.cli.audit import audit
from fprep.cli.doctor import doctor
from fprep.cli.export import export
from fprep.cli.options import AsJson, DryRun, FollowLinks, Limit, Quiet, RawRoot, Table, Workers
from fprep.cli.report import report
from fschemas import wording
from fschemas.command_line import print_version, run_command, say
from fschemas.failures import IntegrityError, UsageError
from fschemas.preflight import check_paths, check_shards, check_tables
from fschemas.wording import count

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


CONTINUES = frozenset({"shard"})  # commands that keep finished work when run again
_AUGMENT = "Recipe of the copies: light, geometric, strong, or a YAML file."
_BOXES = "Answers of `ftrain predict`, whose boxes take the place of the table's; repeatable."
_CHECK_IMAGES = "How thoroughly to check images."
_DEFECTS = "Plant the defects of real archives, listed in defects.json."
_GROUP_SPLIT = "Make new splits that keep items, groups and near-identical images together."
_LIMIT = "Decode only so many images of each split, and let loaders read no more."
_LOCK = "Split lock of `fprep audit --write-lock`; a table that breaks it is refused."
_MAX_REJECTED = "Share of rows above which the exit code is 3."
_PATHS = "Raw folders or files, then the folder to write."
_RAW_FROM = "Take RAW from a key of a YAML file, such as params.yaml:datasets.kfashion.raw."
_NUM_IMAGES = "Number of images: 1000, or the published number with --no-images."
_SIZE = "Long side in pixels of a resized copy; 0 keeps the original bytes."
_TEST_SHARE = "Test share where no labelled test rows are given."
_VAL_SHARE = "Validation share where the data set has none."
_WITH_IMAGES = "Render images, or write annotations only."
_MAP_HELP = (
    "What your own files mean; repeatable. csv: image, category, style, substyle, item, group, split, domain, attributes=COLUMN, "
    "box=x1,y1,x2,y2, box-form, unit, axes, orientation, folder, delimiter, rows. folders: category, style, item, group, split. coco: "
    "box-form, unit, axes, orientation. kfashion: polygons. Readers of coordinates: orientation. `fprep readers` explains each."
)


@app.command()
def sample(
    dataset: Annotated[str, typer.Argument(help="Data set whose raw layout to write, such as fashionai-keypoints.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the raw tree into.")],
    num_images: Annotated[int | None, typer.Option(min=1, help=_NUM_IMAGES)] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives other garments.")] = 0,
    defects: Annotated[bool, typer.Option("--defects", help=_DEFECTS)] = False,
    with_images: Annotated[bool, typer.Option("--with-images/--no-images", help=_WITH_IMAGES)] = True,
    workers: Workers = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Render a synthetic data set in the raw layout of a real one."""
    from fprep.synthetic.command import find_sample, published_images
    from fschemas.cores import available_cores
    from fschemas.progress import Reporter

    writer = find_sample(dataset)
    images = num_images or (1000 if with_images else published_images(dataset))
    if dry_run:
        what = "images and their annotations" if with_images else "rows of annotation"
        _print({"dataset": dataset, "images": images}, as_json, f"{out}: would get {images} {what} of {dataset}")
        return
    with Reporter(quiet=quiet) as report:
        counts = writer(
            out, images=images, seed=seed, workers=workers or available_cores(), defects=defects, with_images=with_images,
            progress=lambda done: report.advance("rendering", done, images),
        )  # fmt: skip
    _print(counts, as_json, f"{out}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))


@app.command()
def convert(
    dataset: Annotated[str, typer.Argument(help="Reader, such as fashionai-keypoints; see `fprep readers`.")],
    paths: Annotated[list[Path], typer.Argument(metavar="RAW... OUT", help=_PATHS)],
    check_images: Annotated[Literal["header", "full", "none"], typer.Option(help=_CHECK_IMAGES)] = "full",
    on_reject: Annotated[Literal["fail", "keep-going"], typer.Option(help="What a rejected row does.")] = "keep-going",
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
            from fprep.cli.wrong_folder import not_a_reader

            not_a_reader(dataset)
        hint = (
            f" (or swap the arguments: {paths[-1]} exists, and the folder to write comes last)"
            if paths[-1].is_dir()
            else ""
        )
        check_paths(paths[:-1], f"no such file or folder; give the unpacked archive{hint}")

    from fprep.cli.params_file import raw_and_out
    from fprep.cli.wrong_folder import look_around
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
            is_of_an_option = str(error).startswith("--")  # not a problem of the folder
            raise UsageError(f"{error}{'' if is_of_an_option else look_around(dataset, raw, out)}") from None
    if failure is not None and not found.kept:
        failure = ConversionRejected(found, f"{failure}{look_around(dataset, raw, out)}")
    values = found.to_json()
    rules = ", ".join(f"{rule} {count}" for rule, count in values["rejected_by_rule"].items())
    warnings = ", ".join(f"{name} {count}" for name, count in values["warnings"].items())
    splits = "".join(f", {count} {split}" for split, count in values["splits"].items())
    rows = f"{count(values['kept'], 'row')} of {count(values['lines'], 'line')}{splits}"
    lines = [
        f"{out}/table.parquet: {rows}" if found.published or dry_run else f"no table: {rows}",
        *([f"recognized: {', '.join(values['variants'])}"] if values["variants"] else []),
        *([f"{out}/rejected.parquet: {count(values['rejected'], 'row')}: {rules}"] if rules else []),
        *([f"kept with a warning: {warnings}"] if warnings else []),
        *[f"note: {note}" for note in values.get("notes", [])],
        *([f"next: fprep report {shlex.quote(str(out))} report.html"] if found.published else []),
    ]
    _print(values, as_json, "\n".join(lines))
    if failure is not None:
        raise failure


@app.command()
def readers(as_json: AsJson = False) -> None:
    """List the readers with their file patterns and --map keys."""
    from fprep.readers.registry import readers as known_readers

    values = {
        name: {
            "paper": reader.paper, "license": reader.license, "citation": reader.citation,
            "files": {variant: list(patterns) for variant, patterns in reader.variants.items()}, "totals": dict(reader.totals),
            "map": dict(reader.mapping),
        }
        for name, reader in known_readers().items()
    }  # fmt: skip
    lines: list[str] = []
    for name, reader in known_readers().items():
        lines += [f"{name}: {reader.paper}; {reader.license}"]
        lines += [f"  recognizes {variant}: {', '.join(patterns)}" for variant, patterns in reader.variants.items()]
        lines += [f"  --map {key}=…  {meaning}" for key, meaning in reader.mapping.items()]
    _print(values, as_json, "\n".join(lines))


@app.command()
def shard(
    table: Table,
    out: Annotated[Path, typer.Argument(help="Folder to write the shard set into.")],
    images: RawRoot = None,
    follow_links: FollowLinks = False,
    size: Annotated[int, typer.Option(min=0, help=_SIZE)] = 0,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality of resized and augmented images.")] = 90,
    copies: Annotated[int, typer.Option(min=0, help="Augmented copies of each training image.")] = 0,
    augment: Annotated[str | None, typer.Option(help=_AUGMENT)] = None,
    shard_samples: Annotated[int, typer.Option(min=1, help="Samples in a shard.")] = 1000,
    seed: Annotated[int, typer.Option(help="Order of the samples, and randomness of the copies.")] = 0,
    workers: Workers = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many images of each split.")] = None,
    boxes: Annotated[list[Path] | None, typer.Option(help=_BOXES)] = None,
    lock: Annotated[Path | None, typer.Option(help=_LOCK)] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Leave out the images that break the lock.")] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a table and its images as WebDataset shards."""
    check_tables([table])

    from fprep.shard.command import shard as run_shard
    from fschemas.progress import Reporter

    with Reporter(quiet=quiet) as report:
        summary = run_shard(
            table, out, images=images, follow_links=follow_links, size=size or None, quality=quality, copies=copies, augment=augment,
            shard_samples=shard_samples, seed=seed, workers=workers or 0, limit=limit, boxes=boxes or (), lock=lock, leave_out=leave_out,
            dry_run=dry_run,
            progress=lambda done, total: report("sharding", done, total),
        )  # fmt: skip
    splits = ", ".join(f"{count} {split}" for split, count in summary["splits"].items())
    state = "nothing to do: " if summary["unchanged"] else ""
    size_of_set = f"{count(summary['shards'], 'shard')} ({summary['reused']} kept), {summary['bytes'] / 1e6:.1f} MB"
    _print(summary, as_json, f"{out}: {state}{size_of_set}, {splits}")


@app.command()
def lint(
    shards: Annotated[Path, typer.Argument(help="Folder of a finished shard set.")],
    loaders: Annotated[bool, typer.Option(help="Open the set with datasets and webdataset too.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help=_LIMIT)] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Check a finished shard set, including that loaders can read it."""
    check_shards(shards)

    from fprep.lint.command import lint as run_lint
    from fschemas.progress import Reporter

    with Reporter(unit="shards", quiet=quiet) as report:
        findings = run_lint(
            shards, loaders=loaders, sample_limit=limit, progress=lambda done, total: report("linting", done, total)
        )
    values = [{"severity": finding.severity, "place": finding.place, "what": finding.what} for finding in findings]
    _print(
        values, as_json, "\n".join(f"{v['severity']}: {v['place']}: {v['what']}" for v in values) or f"{shards}: sound"
    )
    num_errors = sum(value["severity"] == "error" for value in values)
    if num_errors:
        count = wording.count(num_errors, "error")
        raise IntegrityError(f"{shards}: {count}; delete what is damaged and run `fprep shard` again")


app.command()(doctor)
app.command()(export)
app.command()(report)
app.command()(audit)


def _print(value: Any, as_json: bool, text: str) -> None:
    say(value, text, as_json=as_json)


def main() -> None:
    """Entry point of the console script."""
    run_command(lambda: app(standalone_mode=False), "fprep", CONTINUES)
