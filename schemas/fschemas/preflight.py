"""Path checks of commands before slow imports.

Functions that open a folder call the same checks, so messages are the same; content is checked later.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from fschemas.extras import not_installed
from fschemas.failures import EnvironmentProblem, UsageError
from fschemas.folder_kinds import what_is
from fschemas.folders import require_folder
from fschemas.names import CHECKPOINT_NAME
from fschemas.walk import readable


def check_installed(*modules: str, instead: str = "") -> None:
    """Raise `EnvironmentProblem` for the first module that is not installed; `instead` describes an alternative."""
    for module in modules:
        if find_spec(module) is None:
            raise EnvironmentProblem(f"{not_installed(module)}{instead}")


def check_run(run: Path | None) -> None:
    """Raise `UsageError` that describes a folder if it is not a run; None passes."""
    if run is not None:
        require_folder(run, "run")


def check_run_or_runs(run: Path, names: Iterable[str]) -> None:
    """Like `check_run`, but accepts a folder that contains a run for one of the `names`."""
    if not any((run / name / "config.yaml").is_file() for name in names):
        check_run(run)


def check_checkpoint(run: Path, which: str) -> None:
    """Raise `UsageError` for a checkpoint that a run does not have; `best` and `latest` are resolved later."""
    checkpoints = run / "checkpoints"
    if which not in ("best", "latest") and not (CHECKPOINT_NAME.fullmatch(which) and (checkpoints / which).is_dir()):
        raise UsageError(f"{checkpoints}: no checkpoint {which!r}")


def check_shards(location: str | Path | None) -> None:
    """Raise `UsageError` that describes a folder if it is not a shard set. Checks only file names; URLs pass."""
    if location is not None and "://" not in str(location):
        require_folder(Path(location), "shards")


def is_shard_set(location: str) -> bool:
    """Whether this is a URL or a folder with a finished shard set."""
    return "://" in location or (Path(location) / "dataset.json").is_file()


def check_index(index: Path) -> None:
    """Raise `UsageError` that describes a folder if it is not an index."""
    require_folder(index, "index")


def check_tables(tables: Iterable[Path]) -> None:
    """Raise `UsageError` at the first path that is neither a file nor a folder."""
    check_paths(tables, "no such table; write it with `fprep convert`")


def check_file(path: Path, missing: str, remedy: str) -> None:
    """Raise `UsageError` that describes a path if it is not a file."""
    if not path.exists():
        raise UsageError(f"{path}: {missing}; {remedy}")
    if path.is_dir():
        raise UsageError(f"{path}: this is {what_is(path)}; {remedy}")


def check_image_file(image: Path) -> None:
    """Raise `UsageError` unless this is a file, which may be an image."""
    name = readable(image)
    if image.is_dir():
        raise UsageError(
            f"{name}: this is {what_is(image)}, but one image is needed here; the image comes before the runs"
        )
    if not image.exists():
        raise UsageError(f"{name}: no such image")


def check_paths(paths: Iterable[Path | None], what: str) -> None:
    """Raise `UsageError` at the first path that does not exist; `what` is the message, possibly with a remedy."""
    for path in paths:
        if path is not None and not path.exists():
            raise UsageError(f"{path}: {what}")
