"""List files and the attribute matrix: headers, bad rows, joins, and a reference parser on broken files."""

import random
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import fprep.raw.file
import fprep.readers.deepfashion.attribute_matrix
from fprep.raw.folder import RawFolder
from fprep.raw.image_names import image_path_problem
from fprep.readers.deepfashion.attribute_matrix import read_attributes
from fprep.readers.deepfashion.lists import PATH, join_lists, read_list

HEADER = b"image_name  x_1  y_1\n"
ROWS = b"img/A/1.jpg  001 -2\nimg/B/2.jpg  30  4  \n"


def folder(tmp_path: Path, **files: bytes) -> RawFolder:
    for name, content in files.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    return RawFolder.open([tmp_path])


HEADINGS = {
    "as released": (b"2\n" + HEADER + ROWS, {}),
    "count with a blank behind it": (b"2 \n" + HEADER + ROWS, {}),
    "no count line": (HEADER + ROWS, {"no_count_line": 1}),
    "empty count line": (b"\n" + HEADER + ROWS, {"no_count_line": 1}),
    "no header": (b"2\n" + ROWS, {"no_header": 1}),
    "rows only": (ROWS, {"no_count_line": 1, "no_header": 1}),
    "another count": (b"7\n" + HEADER + ROWS, {"count_differs": 1}),
    "CRLF": ((b"2\n" + HEADER + ROWS).replace(b"\n", b"\r\n"), {"crlf": 1}),
    "byte order mark": (b"\xef\xbb\xbf2\n" + HEADER + ROWS, {"bom": 1}),
    "tabs": ((b"2\n" + HEADER + ROWS).replace(b"  ", b"\t"), {}),
    "no line end at the end": ((b"2\n" + HEADER + ROWS).rstrip(), {}),
    "blank lines": (b"2\n" + HEADER + ROWS.replace(b"\n", b"\n \t\n\n"), {}),
}


@pytest.mark.parametrize("case", HEADINGS)
def test_headings(tmp_path, case):
    content, warnings = HEADINGS[case]
    raw = folder(tmp_path, a=content)
    listed = read_list(raw, tmp_path / "a.txt", numbers=2)
    assert listed.names.to_list() == ["img/A/1.jpg", "img/B/2.jpg"]
    assert listed.matrix(2).tolist() == [[1, -2], [30, 4]]
    assert (listed.problems, dict(raw.warnings)) == ({}, warnings)
    accounts = listed.file.accounts
    assert len(listed.file) == accounts["header"] + accounts["blank"] + len(listed)
    assert [listed.line(row).content.split()[0] for row in range(2)] == [b"img/A/1.jpg", b"img/B/2.jpg"]


BAD_ROWS = [
    (b"img/A/1.jpg 1", "wrong_columns", "1 numbers, expected 2"),
    (b"img/A/1.jpg 1 2 3", "wrong_columns", "3 numbers, expected 2"),
    (b"img/A/1.jpg 1_0 2", "bad_cell", "'1_0' is not a whole number"),
    (b"img/A/1.jpg nan 2", "bad_cell", "'nan'"),
    (b"img/A/1.jpg - 2", "bad_cell", "'-'"),
    (b"img/A/1.jpg 12345678 2", "bad_cell", "at most six digits"),
    (b"img/A/1.jpg 1\x0b2 2", "bad_cell", "not a whole number"),
    ("img/A/1.jpg ١ 2".encode(), "bad_cell", "not a whole number"),
    (b"img/A/\xff.jpg 1 2", "bad_encoding", "byte 0xff at position 7"),
    (b'"img/A/1.jpg" 1 2', "quoted_row", "quotation mark"),
    (b"/img/A/1.jpg 1 2", "absolute_path", "is absolute"),
    (b"img/../../1.jpg 1 2", "path_escape", "leaves the archive"),
    (b"img/A\x00/1.jpg 1 2", "bad_path", "control characters"),
    (b"img/" + b"A" * 10_000 + b".jpg 1 2", "bad_path", "more than 255 bytes"),
    (b"img/" + b"A" * (1 << 20) + b".jpg 1 2", "line_too_long", "more than 1048576 bytes"),
]


@pytest.mark.parametrize(
    ("row", "rule", "message"), BAD_ROWS, ids=[f"{k}-{rule}" for k, (_, rule, _) in enumerate(BAD_ROWS)]
)
def test_bad_row(tmp_path, row, rule, message):
    raw = folder(tmp_path, a=b"3\n" + HEADER + ROWS + row + b"\n")
    listed = read_list(raw, tmp_path / "a.txt", numbers=2)
    assert list(listed.problems) == [2]
    assert listed.problems[2][0] == rule
    assert message in listed.problems[2][1]
    assert listed.matrix(2)[:2].tolist() == [[1, -2], [30, 4]]


def test_words_and_text(tmp_path):
    raw = folder(tmp_path, a=b"2\nname status\nimg/1.jpg  a  Heather grey - black \nimg/2.jpg\nimg/3.jpg  b\n")
    listed = read_list(raw, tmp_path / "a.txt", words=2, text=True)
    assert [words.to_list() for words in listed.words] == [["img/1.jpg", "img/2.jpg", "img/3.jpg"], ["a", "", "b"]]
    assert listed.texts is not None
    assert listed.texts.to_list() == ["Heather grey - black", "", ""]
    assert listed.problems == {1: ("wrong_columns", "1 columns, expected at least 2", "1")}


JOIN = {
    "in order": (b"img/1 5\nimg/2 6\nimg/3 7\n", {}),
    "another order": (b"img/3 7\nimg/1 5\nimg/2 6\n", {}),
    "one more": (b"img/3 7\nimg/9 9\nimg/1 5\nimg/2 6\n", {"row_without_image": 1, "count_differs": 1}),
    "one twice": (b"img/1 5\nimg/2 6\nimg/3 7\nimg/2 6\n", {"repeated_row": 1, "count_differs": 1}),
}


@pytest.mark.parametrize("case", JOIN)
def test_join_by_path(tmp_path, case):
    content, warnings = JOIN[case]
    raw = folder(tmp_path, rows=b"3\nname status\nimg/1 a\nimg/2 b\nimg/3 c\n", side=b"3\nname x\n" + content)
    rows = read_list(raw, tmp_path / "rows.txt", words=2)
    side = read_list(raw, tmp_path / "side.txt", numbers=1)
    kept, places = join_lists(raw, rows, {"box": side})
    assert (kept.tolist(), side.matrix(1)[places["box"], 0].tolist(), dict(raw.warnings)) == (
        [0, 1, 2],
        [5, 6, 7],
        warnings,
    )
    accounts = side.file.accounts
    assert accounts["joined"] + accounts["left_out"] == len(side)
    assert accounts["left_out"] == warnings.get("row_without_image", 0)
    for row, place in enumerate(places["box"].tolist()):
        assert raw.location(rows.line(row), "box") == side.line(place)


@pytest.mark.parametrize(
    ("content", "rule", "place"),
    [
        (b"img/1 5\nimg/3 7\n", "missing_row", "rows.txt:4"),
        (b"img/1 5\nimg/2 x\nimg/3 7\n", "bad_cell", "side.txt:4"),
        (b"img/1 5\nimg/2 6\nimg/3 7\nimg/2 8\n", "conflicting_rows", "side.txt:4"),
    ],
)
def test_join_refuses_a_row_without_a_good_partner(tmp_path, content, rule, place):
    raw = folder(tmp_path, rows=b"3\nname status\nimg/1 a\nimg/2 b\nimg/3 c\n", side=b"3\nname x\n" + content)
    rows = read_list(raw, tmp_path / "rows.txt", words=2)
    kept, _ = join_lists(raw, rows, {"box": read_list(raw, tmp_path / "side.txt", numbers=1)})
    assert kept.tolist() == [0, 2]
    assert [(str(reject.row), reject.rule, str(reject.location)) for reject in raw.rejects] == [
        ("rows.txt:4", rule, place)
    ]


def test_rows_may_be_missing_in_optional_lists(tmp_path):
    raw = folder(tmp_path, rows=b"2\nname item\nimg/1 id_2\nimg/2 id_3\n", side=b"1\nimage x\nimg/1 5\n")
    rows = read_list(raw, tmp_path / "rows.txt", words=2)
    side = read_list(raw, tmp_path / "side.txt", numbers=1)
    kept, places = join_lists(raw, rows, {"item": side}, optional=("item",))
    assert (kept.tolist(), places["item"].tolist(), raw.rejects) == ([0, 1], [0, -1], [])


ALPHABET = [
    b"\n",
    b" ",
    b"\t",
    b"/",
    b"..",
    b"1",
    b"-1",
    b"007",
    b"x",
    b"\r",
    b"\r\n",
    b"\xff",
    "é".encode(),
    b'"',
    b"img/a.jpg",
    b"\0",
]


def broken(random_number: random.Random, content: bytes) -> bytes:
    """The content with up to three fragments inserted, deleted or duplicated."""
    for _ in range(random_number.randint(1, 3)):
        start = random_number.randrange(len(content))
        end = min(len(content), start + random_number.choice([0, 1, 1, 2, 9, 40]))
        piece = random_number.choice([b"", content[start:end] * 2, random_number.choice(ALPHABET), content[start:end]])
        content = content[:start] + piece + content[end:]
    return content


def oracle(
    content: bytes, num_values: int, allowed: re.Pattern[bytes]
) -> tuple[dict[int, tuple[bytes, list[int]]], int]:
    """Reference parser in plain Python: good rows by line number, and the number of rows."""
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    good: dict[int, tuple[bytes, list[int]]] = {}
    num_rows, has_count, has_header, in_body = 0, False, False, False
    for number, line in enumerate([line.removesuffix(b"\r") for line in lines], start=1):
        tokens = re.findall(rb"[^ \t]+", line)
        stripped = line.strip(b" \t\r")
        if not in_body and number <= 8:
            if not stripped or (stripped.isdigit() and not has_count and not has_header):
                has_count |= bool(stripped)
                continue
            if not has_header and not PATH.match(stripped):
                has_header = True
                continue
        in_body = True
        if not tokens:
            continue
        num_rows += 1
        fine = (
            b'"' not in line and len(tokens) == 1 + num_values and all(allowed.fullmatch(token) for token in tokens[1:])
        )
        try:
            fine = fine and image_path_problem(tokens[0].decode()) is None and line.decode() is not None
        except UnicodeDecodeError:
            fine = False
        if fine:
            good[number] = tokens[0], [int(token) for token in tokens[1:]]
    return good, num_rows


@pytest.mark.parametrize("seed", range(4))
def test_broken_lists_agree_with_the_oracle(tmp_path, seed):
    random_number = random.Random(seed)
    whole = b"9\n" + HEADER + b"".join(b"img/%d/%d.jpg   %03d -%d 0\n" % (k, k, k * 37, k) for k in range(9))
    for trial in range(100):
        content = broken(random_number, whole) or b"\n"
        if b"\0" in content[:64] or content[:3] == b"\xef\xbb\xbf":
            continue
        listed = read_list(folder(tmp_path, **{f"a{trial}": content}), tmp_path / f"a{trial}.txt", numbers=3)
        good, num_rows = oracle(content, 3, re.compile(rb"-?[0-9]{1,6}"))
        rows = [row for row in range(len(listed)) if row not in listed.problems]
        found = {int(listed.lines[row]): (listed.names[row].encode(), listed.matrix(3)[row].tolist()) for row in rows}
        assert (found, len(listed)) == (good, num_rows), content
        accounts = listed.file.accounts
        assert len(listed.file) == accounts["header"] + accounts["blank"] + num_rows, content


def matrix_text(
    num_rows: int, num_attributes: int, seed: int, layout: str = "{:2d}", end: str = ""
) -> tuple[bytes, np.ndarray]:
    """A list of attribute values in the released format, and the values."""
    generator = np.random.default_rng(seed)
    values = generator.choice([-1, 0, 1], (num_rows, num_attributes), p=[0.9, 0.05, 0.05])
    lines = [f"img/Folder_{'x' * (60 if row % 5 == 4 else row % 3)}/{row}.jpg" for row in range(num_rows)]
    text = "".join(
        f"{name:<70} {' '.join(map(layout.format, row))}{end}\n"
        for name, row in zip(lines, values.tolist(), strict=True)
    )
    return f"{num_rows}\n{'image_name':<70} attribute_labels\n{text}".encode(), values


def ids_of(values: np.ndarray, value: int) -> list[list[int]]:
    return [np.flatnonzero(row == value).tolist() for row in values]


@pytest.mark.parametrize("num_attributes", [8, 26, 1000])
@pytest.mark.parametrize(("layout", "end"), [("{:2d}", ""), ("{:2d}", "  "), ("{:2d}", " \r"), ("{:d}", "")])
@pytest.mark.parametrize("block", [1 << 13, 1 << 21])
def test_attributes(tmp_path, monkeypatch, num_attributes, layout, end, block):
    for module in (fprep.raw.file, fprep.readers.deepfashion.attribute_matrix):
        monkeypatch.setattr(module, "BLOCK", block)
    content, values = matrix_text(40, num_attributes, 0, layout, end)
    raw = folder(tmp_path, a=content)
    listed, positive, unknown = read_attributes(raw, tmp_path / "a.txt", num_attributes)
    rows = np.arange(len(listed))
    assert positive.lists(rows).to_list() == ids_of(values, 1)
    assert unknown.lists(rows).to_list() == ids_of(values, 0)
    assert positive.lists(rows[::-3]).to_list() == ids_of(values[::-3], 1)
    assert listed.names.to_list() == [line.split()[0].decode() for line in content.split(b"\n")[2:-1]]
    assert (listed.lines.tolist(), listed.problems) == (list(range(3, 43)), {})
    expected = [] if layout == "{:2d}" else ["are not aligned as in the released file"]
    assert [note.partition("rows ")[2] for note in raw.notes] == expected


def check_attributes(raw: RawFolder, path: Path, content: bytes, num_attributes: int) -> None:
    """Check that the list has the reference parser's good rows, and a problem for every other row."""
    listed, positive, unknown = read_attributes(raw, path, num_attributes)
    good, num_rows = oracle(content, num_attributes, re.compile(rb"-?0*[01]"))
    rows = np.array([row for row in range(len(listed)) if row not in listed.problems], int)
    ids = zip(positive.lists(rows).to_list(), unknown.lists(rows).to_list(), strict=True)
    found = {
        int(listed.lines[row]): (listed.names[int(row)].encode(), *both) for row, both in zip(rows, ids, strict=True)
    }
    values = {
        line: (name, *(ids_of(np.array([row]), value)[0] for value in (1, 0))) for line, (name, row) in good.items()
    }
    assert (found, len(listed)) == (values, num_rows), content
    accounts = listed.file.accounts
    assert len(listed.file) == accounts["header"] + accounts["blank"] + num_rows, content


@pytest.mark.parametrize("seed", range(4))
def test_broken_attribute_lists_agree_with_the_oracle(tmp_path, monkeypatch, seed):
    for module in (fprep.raw.file, fprep.readers.deepfashion.attribute_matrix):
        monkeypatch.setattr(module, "BLOCK", 512)
    random_number = random.Random(seed)
    for trial in range(100):
        num_attributes = random_number.choice([8, 16, 26])
        content = broken(random_number, matrix_text(9, num_attributes, trial)[0]) or b"\n"
        if b"\0" in content[:64] or content[:3] == b"\xef\xbb\xbf":
            continue
        check_attributes(
            folder(tmp_path, **{f"a{trial}": content}), tmp_path / f"a{trial}.txt", content, num_attributes
        )


def test_line_ends_that_keep_the_rhythm_are_found(tmp_path, monkeypatch):
    """If lines are assumed to have equal length, a space replaced by a line end keeps the total length of two lines."""
    for module in (fprep.raw.file, fprep.readers.deepfashion.attribute_matrix):
        monkeypatch.setattr(module, "BLOCK", 512)
    names = [f"{f'img/F/{row}.jpg':<70}" for row in range(20)]
    content = "".join(["20\n", "image_name labels\n", *(f"{name}{' -1' * 8}\n" for name in names)]).encode()
    start = content.index(b"img/F/12.jpg")
    for place in range(start, start + 94):
        if content[place] == ord(" "):
            (tmp_path / str(place)).mkdir()
            changed = content[:place] + b"\n" + content[place + 1 :]
            check_attributes(folder(tmp_path / str(place), a=changed), tmp_path / str(place) / "a.txt", changed, 8)


def test_list_of_no_rows(tmp_path):
    raw = folder(tmp_path, a=b"0\n" + HEADER, rows=b"0\nname status\n")
    listed = read_list(raw, tmp_path / "a.txt", numbers=2)
    assert (len(listed), listed.matrix(2).shape) == (0, (0, 2))
    kept, places = join_lists(raw, read_list(raw, tmp_path / "rows.txt", words=2), {"box": listed})
    assert (len(kept), len(places["box"])) == (0, 0)
    _, positive, _ = read_attributes(raw, tmp_path / "a.txt", 26)
    assert positive.lists(np.arange(0)).equals(pl.Series([], dtype=pl.List(pl.Int16)))
