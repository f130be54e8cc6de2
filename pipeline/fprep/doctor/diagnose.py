"""Diagnosis of known files: their data sets, root folders, missing files, and whether the reader can read them."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from fprep.doctor.contents import Head, compare_version, inspect_head
from fprep.doctor.finding import Diagnosis, Finding
from fprep.doctor.images_found import find_images, image_findings, sample_rows, size_findings
from fprep.doctor.scan import Scan
from fprep.doctor.signatures import LABEL_FOLDERS, SPLIT_FOLDERS
from fprep.raw.marker import MARKER
from fprep.readers.reader import Reader
from fprep.readers.registry import find_reader
from fprep.readers.signature import Signature

Known = Mapping[Path, tuple[Signature, Head]]

_MAX_LISTED = 12  # maximum number of findings about missing files


def diagnose(scanned: Scan, known: Known, given: Path) -> list[Diagnosis]:
    """Return one diagnosis per data set. `known` are the recognized files, `given` is the path the user typed."""
    found: list[Diagnosis] = []
    by_reader: dict[str, dict[Path, tuple[Signature, Head]]] = {}
    for path, entry in known.items():
        by_reader.setdefault(entry[0].reader, {})[path] = entry
    for name, files in sorted(by_reader.items()):
        reader = find_reader(name)
        for home in _homes(scanned, reader, list(files), alone=len(by_reader) == 1):
            matched = {path: entry for path, entry in files.items() if path.is_relative_to(home)}
            found.append(_diagnose_one(scanned, reader, home, matched, known, given))
    return sorted(found, key=lambda diagnosis: (not diagnosis.command, str(diagnosis.home), diagnosis.reader))


def _homes(scanned: Scan, reader: Reader, paths: list[Path], *, alone: bool) -> list[Path]:
    """Return the root folders of the copies of a data set. Archives that one reader combines share one root."""
    homes = sorted({_home(scanned, reader, path) for path in paths})
    homes = [home for home in homes if not any(home != other and home.is_relative_to(other) for other in homes)]
    if len(homes) < 2 or not reader.collects:
        return homes
    common = Path(os.path.commonpath(homes))
    if common != scanned.root or alone:
        return [_home(scanned, reader, common / "x")]
    parts: dict[str, list[Path]] = {}
    for home in homes:
        parts.setdefault(home.relative_to(common).parts[0], []).append(home)
    return [Path(os.path.commonpath(group)) for group in parts.values()]


def _home(scanned: Scan, reader: Reader, path: Path) -> Path:
    """Return the parent of the topmost folder that contains annotation files."""
    parts = path.parent.relative_to(scanned.root).parts
    depth = next((index for index, part in enumerate(parts) if part.lower() in LABEL_FOLDERS), len(parts))
    if reader.collects == "documents" and depth and parts[depth - 1].lower() in SPLIT_FOLDERS:
        depth -= 1
    return scanned.root.joinpath(*parts[:depth])


def _diagnose_one(scanned: Scan, reader: Reader, home: Path, matched: Known, known: Known, given: Path) -> Diagnosis:
    diagnosis = Diagnosis(reader.name, "", home)
    findings = diagnosis.findings
    if home != given and given.is_dir():
        inside = given.is_relative_to(home)
        where = "the given folder is part of it" if inside else "below the given folder"
        findings.append(Finding("note", "too-deep" if inside else "nested", home, f"the data set begins here, {where}"))
    claimed = {path for path, (signature, _) in known.items() if signature.reader != reader.name}
    files = [path for path in scanned.files() if path.is_relative_to(home) and path not in claimed]
    diagnosis.variant, missing = best_variant(reader, [path.relative_to(home).as_posix() for path in files])
    needs = f"the variant {diagnosis.variant!r} of the reader needs it"
    findings += [
        Finding("problem", "missing", home, f"{_release_file(reader, pattern)}; {needs}") for pattern in missing
    ]
    is_synthetic = (home / MARKER).is_file()
    if is_synthetic:
        what = "synthetic garments rendered by `fprep sample`, not the data set itself"
        findings.append(Finding("note", "synthetic", home, what))
    for path, (signature, head) in sorted(matched.items()):
        found = _file_findings(path, signature, head, {other.name for other in matched})
        findings += [finding for finding in found if finding.code != "edited" or not is_synthetic]
    absent = list(_missing(reader, home, matched, missing))
    findings += absent[:_MAX_LISTED]
    if more := len(absent) - len(absent[:_MAX_LISTED]):
        findings.append(Finding("warning", "missing", home, f"{more} more files are missing"))
    images = list(_check_images(scanned, reader, home, matched))
    findings += [finding for finding in images if finding.code != "resolution" or not is_synthetic]
    if not missing and not any(finding.code in ("utf-16", "empty") for finding in findings):
        without = any(finding.code == "no-images" for finding in images)
        diagnosis.command = "convert"
        diagnosis.options = ["--check-images", "none"] if without else []
    return diagnosis


def _file_findings(path: Path, signature: Signature, head: Head, names: set[str]) -> Iterator[Finding]:
    version = compare_version(path, head, signature)
    expected = PurePosixPath(signature.location).name
    if not expected or path.name == expected:
        yield from inspect_head(path, head, signature)
        if version is not None:
            yield version
        return
    what = f"{expected} ({signature.gives}) under another name, which the reader ignores"
    edited = f"; {version.message}" if version is not None and version.severity != "good" else ""
    if expected in names:
        yield Finding("note", "other-copy", path, f"another version of {what}{edited}")
    elif edited:
        yield Finding("warning", "renamed", path, f"looks like {what}{edited}")
    else:
        remedy = f"if it is complete, rename it to {signature.location}"
        yield Finding("warning", "renamed", path, f"looks like {what}; {remedy}")


def _missing(reader: Reader, home: Path, matched: Known, needed: list[str]) -> Iterator[Finding]:
    """Report missing files of the release and what they are needed for. `needed` are patterns already reported."""
    present = {path.name for path in matched}
    layouts = {signature.layout for signature, _ in matched.values() if signature.rows} or {""}
    anno = "Anno" if (home / "Anno").is_dir() and not (home / "Anno_coarse").is_dir() else "Anno_coarse"
    for signature in reader.signatures:
        if not signature.location or (signature.layout and signature.layout not in layouts):
            continue
        location = signature.location.replace("Anno_coarse", anno)
        file = PurePosixPath(location).name
        if file not in present and not any(_matches(pattern.rpartition("/")[2], file) for pattern in needed):
            yield Finding("warning", "missing", home, f"{location} is missing: {signature.gives}")


def _check_images(scanned: Scan, reader: Reader, home: Path, matched: Known) -> Iterator[Finding]:
    listing = [path for path, (signature, _) in matched.items() if signature.rows]
    if not listing:
        yield from _check_documents(scanned, home, matched)
        return
    homes = [home, *(_home(scanned, reader, path) for path in listing), *(path.parent for path in listing)]
    if listing[0].suffix == ".json":  # images of COCO files may be in any folder
        homes += [path for path, folder in scanned.folders.items() if folder.images and path.is_relative_to(home)]
    sampled = find_images(scanned, list(dict.fromkeys(homes)), sample_rows(listing))
    yield from image_findings(sampled, home, nested=not reader.collects)
    yield from size_findings(sampled, home, reader.image_side)


def _check_documents(scanned: Scan, home: Path, matched: Known) -> Iterator[Finding]:
    """Check that images of the same names exist, for data sets with one annotation file per image."""
    stems = {path.stem for path, (signature, _) in matched.items() if signature.name != r"meta.*\.json"}
    folders = [folder for path, folder in scanned.folders.items() if path.is_relative_to(home) and folder.images]
    beside = {name.rpartition(".")[0] for folder in folders for name in folder.images}
    cut = any(folder.cut for folder in folders)
    if not folders:
        yield Finding("warning", "no-images", home, f"no images below it, for {len(matched)} or more annotation files")
    elif (absent := sorted(stems - beside)) and not cut:
        message = f"{len(absent)} of {len(stems)} annotation files have no image, such as {absent[0]}"
        yield Finding("warning", "some-images", home, message)
    elif not absent:
        yield Finding("good", "images", home, f"all of {len(stems)} scanned annotation files have an image")


def _release_file(reader: Reader, pattern: str) -> str:
    file = pattern.rpartition("/")[2]
    for entry in reader.signatures:
        if _matches(file, PurePosixPath(entry.location).name):
            return f"{entry.location if pattern.startswith('**/') else pattern} is missing ({entry.gives})"
    return f"{pattern} is missing"


def best_variant(reader: Reader, names: list[str]) -> tuple[str, list[str]]:
    """Return the most complete variant and its patterns without a match; complete variants come first.

    For a reader that combines several archives, return all complete variants.
    """
    scored: list[tuple[int, int, int, str, list[str]]] = []
    for number, (variant, patterns) in enumerate(reader.variants.items()):
        missing = [pattern for pattern in patterns if not any(_matches(pattern, name) for name in names)]
        scored.append((min(len(missing), 1), len(missing) - len(patterns), number, variant, missing))
    whole = [variant for lacking, _, _, variant, _ in scored if not lacking]
    if len(whole) > 1 and reader.collects:
        return ", ".join(whole), []
    *_, variant, missing = min(scored)
    return variant, missing


def _matches(pattern: str, name: str) -> bool:
    """Whether a glob pattern with `**/` matches a relative path."""
    parts = re.split(r"(\*\*/|\*|\?)", pattern)
    words = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.fullmatch("".join(words.get(part, re.escape(part)) for part in parts), name) is not None
