"""Plain configuration values before validation: profiles and `--set a.b=c`.

Nothing here imports torch, so that a wrong name is reported immediately.
"""

import reprlib
from copy import deepcopy
from pathlib import Path
from typing import Any

from fschemas.failures import UsageError, did_you_mean
from fschemas.yaml_file import parse_yaml, read_yaml

PACKAGED_PARAMS = Path(__file__).with_name("params.yaml")


def profile_values(
    task: str, params: Path | None, profile: str | None, named: str | None
) -> tuple[dict[str, Any], str]:
    """Values of the requested profile and their source. Raises `UsageError` if the profile does not exist."""
    name = named or task
    if named is not None:
        if params is None:
            raise UsageError(f"--section {named}: there is no params.yaml here; choose one with --params")
        known = [key for key, value in read_values(params).items() if isinstance(value, dict)]
        if named not in known:
            hint = did_you_mean(named, known)
            raise UsageError(f"{params}: no section {named!r}; {hint}add one, or choose another file with --params")
    if params is None and profile is None:
        return {}, "the defaults"
    section = {} if params is None else read_values(params).get(name)
    asked = profile or (section.get("profile") if isinstance(section, dict) else None)
    if asked is not None and not isinstance(asked, str):
        raise UsageError(f"{params}: {name}.profile={asked!r} is not a name; choose one profile")
    own, chosen = _profiles(section), asked or "tiny"
    if chosen in own:
        return deepcopy(own[chosen]), str(params)
    packaged = _profiles(read_values(PACKAGED_PARAMS).get(task))
    if asked in packaged:  # without a requested profile, the user's file must define the default
        return packaged[asked], f"profile {asked} of ftrain"
    if not isinstance(section, dict) and profile is None:
        known = f"choose a profile of ftrain with --profile ({', '.join(packaged)})" if packaged else "add one"
        raise UsageError(f"{params}: no section {name!r}; {known}, or another file with --params")
    known = dict.fromkeys([*own, *packaged])
    where = f"{params}: " if params else ""
    if not asked:
        raise UsageError(
            f"{where}{name} selects no profile and has no 'tiny'; choose one with --profile: {', '.join(known)}"
        )
    raise UsageError(
        f"{where}{name} has no profile {chosen!r}; {did_you_mean(str(chosen), known)}choose from {', '.join(known)}"
    )


def _profiles(section: Any) -> dict[str, dict[str, Any]]:
    """Profiles of a section of params.yaml, without the entry that selects the default."""
    entries = section.items() if isinstance(section, dict) else ()
    return {name: value for name, value in entries if isinstance(value, dict)}


def params_here(params: Path | None) -> Path | None:
    """The requested file, or the params.yaml in the working directory if there is one."""
    here = Path("params.yaml")
    return params or (here if here.exists() else None)


def read_values(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file. Raises `UsageError` if it contains none."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected a mapping of names to values")
    return values


def set_value(section: dict[str, Any], override: str) -> None:
    """Set a nested value from `a.b=c`. Raises `UsageError` for other forms."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UsageError(f"--set {override}: write it as name.of.parameter=value")
    *parents, last = path.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UsageError(f"--set {override}: {parent} has no parts")
    try:
        section[last] = parse_yaml(text, "") if text else ""  # YAML would read nothing as null
    except UsageError as error:
        raise UsageError(
            f"--set {path}={reprlib.repr(text)[1:-1]}: {reprlib.repr(text)} is not a value{error}"
        ) from None
