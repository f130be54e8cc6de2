"""`fprep doctor`: identify the data set in a folder, list its problems, and print the convert command.

It scans names without opening files, recognizes annotation files by their first bytes, and compares what it finds with
what the readers declare. It writes nothing. Its running time is bounded: of a huge tree it scans a part and reports
this.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fprep.convert.command import convert
from fprep.doctor.archives import inspect_archive
from fprep.doctor.contents import Head, inspect_head, inspect_name, read_head
from fprep.doctor.diagnose import diagnose
from fprep.doctor.finding import ORDER, Diagnosis, Finding, more_than
from fprep.doctor.own_images import diagnose_own_images
from fprep.doctor.scan import MAX_ENTRIES, Scan, scan
from fprep.doctor.signatures import IMAGE_FOLDERS, LABEL_FOLDERS, recognize, signatures
from fprep.raw.folder import absent, real_path
from fprep.raw.safe_open import HOW_TO_FOLLOW
from fprep.readers.registry import readers
from fprep.readers.signature import Signature
from fschemas.command_line import shell_word
from fschemas.failures import FashionkitError, UsageError
from fschemas.folder_kinds import kind_of_folder
from fschemas.progress import Progress, no_progress
from fschemas.walk import is_utf8, list_folder, readable
from fschemas.wording import count

_TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".json")
_MAX_HEADS = 4_000  # files of which the first bytes are read
_HEADS_OF_A_FOLDER = 64
_MAX_NAMES = 3  # findings of one kind about file names


@dataclass
class Checkup:
    """The result for `path`: the data sets found, and findings that belong to none of them."""

    path: Path
    scan: Scan
    diagnoses: list[Diagnosis] = field(default_factory=list[Diagnosis])
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def commands(self) -> list[str]:
        """The commands that convert the data sets that can be converted."""
        return [diagnosis.command for diagnosis in self.diagnoses if diagnosis.command]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with paths as typed from the current working directory."""
        return {
            "path": str(self.path),
            "looked_at": {
                "folders": len(self.scan.folders), "names": self.scan.entries, "images": self.scan.num_images,
                "incomplete": self.scan.incomplete,
            },
            "datasets": [
                {
                    "reader": diagnosis.reader, "variant": diagnosis.variant, "home": shown(diagnosis.home, self.path),
                    "command": diagnosis.command, "findings": [self._plain(finding) for finding in diagnosis.findings],
                }
                for diagnosis in self.diagnoses
            ],
            "findings": [self._plain(finding) for finding in self.findings],
        }  # fmt: skip

    def to_text(self) -> str:
        """Return the report as text."""
        names, folders = count(self.scan.entries, "name"), count(len(self.scan.folders), "folder")
        scanned = f"{names} in {folders}, {count(self.scan.num_images, 'image')}"
        lines = [f"{self.path}: {scanned}" + (f"; {self.scan.incomplete}" if self.scan.incomplete else "")]
        for diagnosis in self.diagnoses:
            variant = f" ({diagnosis.variant})" if diagnosis.variant else ""
            lines += ["", f"{diagnosis.reader}{variant} in {shown(diagnosis.home, self.path)}"]
            lines += self._lines(diagnosis.findings, diagnosis.home)
            lines += [f"  run: {diagnosis.command}"] if diagnosis.command else []
        if self.findings:
            lines += ["", "other findings" if self.diagnoses else "no data set that a reader knows"]
            lines += self._lines(self.findings, self.path)
        elif not self.diagnoses:
            lines += ["", f"no data set that a reader knows; readers: {', '.join(readers())}"]
            if self.scan.num_images:
                lines += [
                    "images need labels: put them into a folder for each class and convert with `folders`, or list them in a",
                    "table and convert with `csv`; `ftrain predict`, `describe` and `query` accept them as they are",
                ]
        return "\n".join(lines)

    def _lines(self, findings: list[Finding], home: Path) -> list[str]:
        lines: list[str] = []
        for found in sorted(findings, key=lambda finding: ORDER.index(finding.severity)):
            below = found.path.relative_to(home) if found.path.is_relative_to(home) else shown(found.path, self.path)
            where = "" if found.path in (home, self.path) else f"{below}: "
            lines.append(f"  {found.severity:8}{where}{found.message}")
        return lines

    def _plain(self, finding: Finding) -> dict[str, str]:
        return {**vars(finding), "path": shown(finding.path, self.path)}


def shown(path: Path, given: Path) -> str:
    """Return a path as the user would type it who typed `given`."""
    return os.path.normpath(given / os.path.relpath(path, real_path(given)))


def doctor(
    path: Path,
    *,
    limit: int | None = None,
    try_rows: int = 0,
    follow_links: bool = False,
    progress: Progress = no_progress,
) -> Checkup:
    """Diagnose a folder, archive or annotation file.

    `limit` is the maximum number of file names to scan. `try_rows` is the number of rows of each data set to convert as
    a trial, without writing anything. `follow_links` is that of `fprep convert`. Raises `UsageError` if `path` does not
    exist.
    """
    path = Path(path)
    if not (path.is_dir() or path.is_file()):
        what = "neither a folder nor a regular file" if path.exists() else absent(path)
        raise UsageError(f"{path}: {what}; choose the folder that the archive was unpacked into")
    home = real_path(path)
    scanned = scan(_start(home), max_entries=limit or MAX_ENTRIES, follow_links=follow_links)
    known, strange = _know_files(scanned, progress)
    checkup = Checkup(path, scanned, findings=[*_scan_findings(path, scanned), *strange, *_name_findings(scanned)])
    for file in scanned.files():
        checkup.findings += inspect_archive(file)
    checkup.diagnoses += diagnose(scanned, known, home)
    checkup.diagnoses += diagnose_own_images(scanned, [found.home for found in checkup.diagnoses])
    seen = Counter[str]()
    for diagnosis in checkup.diagnoses:
        if not diagnosis.command or not is_utf8(str(path)):
            diagnosis.command = ""
            continue
        seen[diagnosis.reader] += 1
        number = f"-{seen[diagnosis.reader]}" if seen[diagnosis.reader] > 1 else ""
        diagnosis.options += ["--follow-links"] if follow_links else []
        diagnosis.command = _command(diagnosis, path, f"tables/{diagnosis.reader}{number}")
        if try_rows:
            diagnosis.findings.append(_try(diagnosis, try_rows, follow_links, progress))
    return checkup


def _scan_findings(path: Path, scanned: Scan) -> Iterator[Finding]:
    if (kind := kind_of_folder(path)) is not None:
        yield Finding("note", "ours", scanned.root, f"this is {kind.words}, written by fprep or ftrain")
    if not is_utf8(str(path)):
        message = f"{readable(path)} is not UTF-8; rename it, because convert rejects it"
        yield Finding("problem", "name-bytes", scanned.root, message)
    for unreadable in scanned.unreadable:
        yield Finding("warning", "unreadable", unreadable, "cannot be read; check its mode")
    if scanned.odd:
        message = f"a broken link, or not a regular file{more_than(scanned.odd)}; restore or remove it"
        yield Finding("warning", "odd", scanned.odd[0], message)
    if scanned.links:
        target = f"{os.path.realpath(scanned.links[0])}{more_than(scanned.links)}"
        message = f"a link to {target}: not followed, as by convert; {HOW_TO_FOLLOW}"
        yield Finding("warning", "links", scanned.links[0], message)
    if scanned.junk:
        message = f"{count(scanned.junk, 'file')} left by macOS, Windows or an editor, ignored"
        yield Finding("note", "junk", scanned.root, message)


def _start(path: Path) -> Path:
    """Return the folder to scan: the parent if the given one is part of a data set, such as `Anno`, `Eval` or `Img`."""
    inner = LABEL_FOLDERS | IMAGE_FOLDERS
    start = path
    while start.is_dir() and start.name.lower() in inner and start.parent != start:
        parent = start.parent
        below = list_folder(parent)
        beside = {name.lower() for name in (*below.folders, *below.linked)} - {start.name.lower()}
        if not (beside & LABEL_FOLDERS or start.name.lower() in LABEL_FOLDERS):
            break
        start = parent
    return start


def _know_files(scanned: Scan, progress: Progress) -> tuple[dict[Path, tuple[Signature, Head]], list[Finding]]:
    """Recognize annotation files, and return findings about files that only have the name of one."""
    known: dict[Path, tuple[Signature, Head]] = {}
    ambiguous: dict[Path, tuple[tuple[Signature, ...], Head]] = {}
    findings: list[Finding] = []
    budget = _MAX_HEADS
    for number, folder in enumerate(scanned.folders.values(), start=1):
        progress("folders", number, len(scanned.folders))
        names = [name for name in folder.files if name.lower().endswith(_TEXT_SUFFIXES)][:_HEADS_OF_A_FOLDER]
        for name in names[: max(0, budget)]:
            file = folder.path / name
            head = read_head(file)
            if head is None:
                continue
            fitting = recognize(file, head.text)
            if len(fitting) == 1:
                known[file] = (fitting[0], head)
            elif fitting:
                ambiguous[file] = (fitting, head)
            elif any(re.fullmatch(entry.name, name.lower()) for entry in signatures() if entry.location):
                message = f"named like an annotation file, but begins with {head.raw[:40]!r}"
                findings += list(inspect_head(file, head, None)) or [Finding("warning", "unlike", file, message)]
            else:
                codes = ("lfs-pointer", "web-page", "utf-16")
                findings += [found for found in inspect_head(file, head, None) if found.code in codes]
        budget -= len(names)
    for file, (fitting, head) in ambiguous.items():  # decided by the nearest recognized file: most shared folders
        near = Counter[str]()
        for other, (signature, _) in known.items():
            shared = len(Path(os.path.commonpath([file, other])).parts)
            near[signature.reader] = max(near[signature.reader], shared)
        known[file] = (max(fitting, key=lambda signature: near[signature.reader]), head)
    return known, findings


def _name_findings(scanned: Scan) -> list[Finding]:
    counts: dict[str, list[Finding]] = {}
    for path, folder in scanned.folders.items():
        names = [*folder.files, *(name for name in folder.images if not name.isascii())]
        for entry in (path, *(path / name for name in names)):
            if entry != scanned.root and (finding := inspect_name(entry)) is not None:
                counts.setdefault(finding.code, []).append(finding)
    findings: list[Finding] = []
    for found in counts.values():
        findings += found[:_MAX_NAMES]
        if len(found) > _MAX_NAMES:
            more = f"and {len(found) - _MAX_NAMES} more names of this kind"
            findings.append(Finding(found[0].severity, found[0].code, scanned.root, more))
    return findings


def _command(diagnosis: Diagnosis, given: Path, out: str) -> str:
    """Return the command with paths as the user types them, quoted for the shell."""
    home = real_path(given) if given.is_file() and diagnosis.home == real_path(given).parent else diagnosis.home
    raw = [shown(path, given) for path in diagnosis.raw or [home]]
    raw = [f"./{path}" if path.startswith(("-", "~")) else path for path in raw]  # neither an option nor a home folder
    return " ".join(map(shell_word, ["fprep", "convert", diagnosis.reader, *raw, out, *diagnosis.options]))


def _try(diagnosis: Diagnosis, rows: int, follow_links: bool, progress: Progress) -> Finding:
    """Convert some rows without writing anything, and report the result."""
    check_images = "none" if "--check-images" in diagnosis.options else "header"
    mapping = dict(entry.split("=", 1) for entry in diagnosis.options if "=" in entry)
    try:
        report = convert(
            diagnosis.reader, diagnosis.raw or [diagnosis.home], diagnosis.home.parent / "table", check_images=check_images, max_rejected=1.0,
            workers=1, limit=rows, mapping=mapping, follow_links=follow_links, dry_run=True, progress=lambda stage, done, total: progress(f"{diagnosis.reader}: {stage}", done, total),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001  an error in a reader must not hide the other findings
        words = " ".join(f"because of a bug in the reader: {type(error).__name__}: {error}".split())
        why = f": {error}" if isinstance(error, FashionkitError) else f" {words[:225]}"
        return Finding("problem", "trial", diagnosis.home, f"a trial conversion of {count(rows, 'row')} failed{why}")
    rules = ", ".join(f"{rule} {number}" for rule, number in report.rejected_by_rule.items())
    message = f"a trial conversion kept {count(report.kept, 'row')} and rejected {report.rejected}{f' ({rules})' if rules else ''}"
    return Finding("problem" if report.kept == 0 else "good", "trial", diagnosis.home, message)
