"""Every command line printed by `fprep doctor` works as printed, for any names of folders, tables and columns."""

from __future__ import annotations

import csv
import io
import json
import shlex
import shutil
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.trees import tree_of
from typer.testing import CliRunner

from fprep.cli import app
from fprep.doctor.command import doctor
from fprep.raw.dialect import join_names, plain_name, read_names
from fschemas.table_file import read_metadata, read_table

SIGNS = ",;\t|"
PIXELS = io.BytesIO()
Image.new("RGB", (12, 12), "grey").save(PIXELS, "JPEG")


def run_line(line: str, *options: str) -> tuple[pl.DataFrame, Path]:
    """Run a printed line, parsed as by a shell, in this process; return the table and its raw root."""
    program, *words = shlex.split(line)
    assert program == "fprep"
    out = next(Path(word) for word in words if word.startswith("tables/"))
    done = CliRunner().invoke(app, [*words, *options, "--quiet"])
    assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
    root = read_metadata(out / "table.parquet")["raw_root"]
    return pl.DataFrame(read_table(out / "table.parquet")), out / str(root)


LETTERS = "ab 1'\"$&;,#()[]=-~|!*?%{}éß이미지"
names = (
    st.text(LETTERS, min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda name: name.rstrip("~ ") and not name.startswith("#"))
)
column_names = st.text(LETTERS + "\n\t", min_size=1, max_size=8).map(plain_name).filter(bool)
tables = st.fixed_dictionaries(
    {
        "folder": names,
        "table": names,
        "images": st.lists(names, min_size=4, max_size=6, unique_by=str.casefold),
        "columns": st.lists(column_names, min_size=3, max_size=3, unique_by=str.casefold),
        "label": names,
        "delimiter": st.sampled_from(SIGNS),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "line_end": st.sampled_from(["\n", "\r\n", "\r"]),
        "bom": st.booleans(),
        "sep_line": st.booleans(),
        "extension": st.booleans(),
        "place": st.sampled_from(["", "images/", "photos of 2020/"]),
    }
)
PLAIN = {
    "folder": "raw", "table": "t", "images": ["p", "q", "r", "s"], "columns": ["image", "label", "x"], "label": "a", "delimiter": ",",
    "quoting": csv.QUOTE_MINIMAL, "line_end": "\n", "bom": False, "sep_line": False, "extension": True, "place": "",
}  # fmt: skip


def write_table(root: Path, case: dict[str, object]) -> None:
    """Write a table with columns of images, of two labels and of numbers, and the images."""
    home = root / str(case["folder"])
    (home / str(case["place"])).mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(
        text, delimiter=str(case["delimiter"]), quoting=case["quoting"], lineterminator=str(case["line_end"])
    )
    writer.writerow(case["columns"])
    for number, name in enumerate(case["images"]):
        (home / f"{case['place']}{name}.jpg").write_bytes(PIXELS.getvalue())
        writer.writerow([f"{name}.jpg" if case["extension"] else name, f"{case['label']}{'xy'[number % 2]}", number])
    front = f"sep={case['delimiter']}{case['line_end']}" if case["sep_line"] else ""
    content = (front + text.getvalue()).encode()
    (home / f"{case['table']}.csv").write_bytes(b"\xef\xbb\xbf" + content if case["bom"] else content)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@example(PLAIN)
@example(PLAIN | {"folder": "-raw", "table": "~t", "columns": ["a=b", "c'd", "x"]})
@example(
    PLAIN
    | {"columns": ["it's", 'the "label"', "a,b"], "delimiter": ";", "extension": False, "place": "photos of 2020/"}
)
@example(PLAIN | {"delimiter": "|", "sep_line": True, "line_end": "\r", "bom": True, "quoting": csv.QUOTE_ALL})
@given(tables)
def test_lines_for_tables_work_as_printed(case):
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_table(Path(place), case)
        lines = doctor(Path(case["folder"])).commands
        words = [*case["images"], *case["columns"], case["label"]]
        if not any(sign in word for word in words for sign in SIGNS + '"'):  # otherwise, dialects may coincide
            assert len(lines) == 1, doctor(Path(case["folder"])).to_text()
        for line in lines:
            table, root = run_line(line, "--check-images", "none")
            assert len(table) > 0
            if len(table) == len(case["images"]):
                assert all((root / image).is_file() for image in table["image"])


@pytest.mark.parametrize("folder", ["a folder", "-raw", "~raw", "R&D (copy)", "K-Fashion '이미지'", 'say "$HOME"; [x]'])
@pytest.mark.parametrize("name", ["deepfashion_inshop", "kfashion_asen", "folders"])
def test_lines_for_data_sets_work_as_printed(name, folder, tmp_path, monkeypatch):
    shutil.copytree(tree_of(name), tmp_path / folder, ignore=shutil.ignore_patterns("expected.json"))
    monkeypatch.chdir(tmp_path)
    lines = doctor(Path(folder)).commands
    assert lines
    for line in lines:
        table, _ = run_line(line, "--check-images", "none", "--max-rejected", "1")
        assert len(table) > 0


def put(root: Path, *images: str) -> None:
    for number, image in enumerate(images):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 50), (number * 9 % 256, number * 5 % 256, 9)).save(root / image, "JPEG")


IDS = [f"{number:08x}-16fd-4a76" for number in range(24)]


def test_an_unknown_folder_with_a_table_and_images(tmp_path, monkeypatch):
    """As in a public clothing data set: names without extension, in a folder next to the table."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "set", *(f"images/{name}.jpg" for name in IDS))
    rows = [
        f"{name},{124 + number % 3},{['T-Shirt', 'Shoes', 'Dress'][number % 3]},{number % 5 == 0}"
        for number, name in enumerate(IDS)
    ]
    (tmp_path / "set/images.csv").write_text("\n".join(["image,sender_id,label,kids", *rows, ""]))
    (line,) = doctor(Path("set")).commands
    assert line == "fprep convert csv set/images.csv tables/csv --map image=image --map category=label"
    table, root = run_line(line)
    assert len(table) == 24
    assert sorted(set(table["category"])) == ["Dress", "Shoes", "T-Shirt"]
    assert (root / table["image"][0]).is_file()


@pytest.mark.parametrize(
    ("header", "row", "options"),
    [
        ("nr,datei,kleidung", "{i},{name}.jpg,{kind}", ["image=datei", "category=kleidung"]),
        ("a,b,set", "{name},{kind},{split}", ["image=a", "split=set", "category=b"]),
        ("filename,fold,articleType,season", "{name}.jpg,{i},{kind},{two}", ["image=filename", "category=articleType", "split="]),
        ("file,productId,label", "{name}.jpg,p{half},{kind}", ["image=file", "category=label", "item=productId"]),
        ("file,label,x,y,w,h", "{name}.jpg,{kind},20,30,10,12", ["image=file", "category=label", "box=x,y,w,h", "box-form=size"]),
        ("file,label,x1,y1,x2,y2", "{name}.jpg,{kind},20,30,10,12", ["image=file", "category=label", "box="]),
        ("file,label,bbox", '{name}.jpg,{kind},"[1, 2, 30, 40]"', ["image=file", "category=label", "box=bbox"]),
        (
            "file,label,cx,cy,w,h", "{name}.jpg,{kind},0.5,0.5,0.4,0.2",
            ["image=file", "category=label", "box=cx,cy,w,h", "box-form=center", "unit=relative"],
        ),
        ("image_id,file_name,label", "{i},{name}.jpg,{kind}", ["image=file_name", "category=label"]),
    ],
)  # fmt: skip
def test_columns_are_proposed_by_their_values(header, row, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "raw", *(f"photos/{name}.jpg" for name in IDS))
    values = [
        {"i": number, "name": name, "kind": ["dress", "coat", "skirt"][number % 3], "split": ["train", "val", "test"][number // 8],
         "two": ["summer", "winter"][number % 2], "half": number // 2}
        for number, name in enumerate(IDS)
    ]  # fmt: skip
    (tmp_path / "raw/list.csv").write_text("\n".join([header, *(row.format(**value) for value in values), ""]))
    (line,) = doctor(Path("raw")).commands
    assert sorted(word for word in shlex.split(line) if "=" in word) == sorted(options)
    table, _ = run_line(line, "--check-images", "header" if "unit=relative" in options else "none")
    assert len(table) == 24


@pytest.mark.parametrize("images", ["pics/{}.jpg", "other/deep/{}.jpg"])
def test_images_elsewhere_are_given_with_the_table(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "set", *(images.format(name) for name in IDS[:6]))
    (tmp_path / "set/meta").mkdir()
    (tmp_path / "set/meta/t.csv").write_text("id,kind\n" + "".join(f"{name},a\n" for name in IDS[:6]))
    (line,) = doctor(Path("set")).commands
    assert shlex.split(line)[3:5] == ["set/meta/t.csv", f"set/{images.rpartition('/')[0]}"]
    table, root = run_line(line, "--check-images", "none")
    assert all((root / image).is_file() for image in table["image"])


def test_images_in_folders_of_classes_that_the_table_does_not_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "set", *(f"images/{'ab'[number % 2]}/{name}.jpg" for number, name in enumerate(IDS[:6])))
    (tmp_path / "set/t.csv").write_text("id,kind\n" + "".join(f"{name}.jpg,a\n" for name in IDS[:6]))
    (line,) = doctor(Path("set")).commands
    table, root = run_line(line, "--check-images", "none")
    assert all((root / image).is_file() for image in table["image"])


def test_a_table_goes_with_the_folder_of_its_name_where_names_repeat(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "set", *(f"{folder}/{number}.png" for folder in ("test", "train") for number in range(8)))
    for folder in ("test", "train"):
        (tmp_path / f"set/{folder}.csv").write_text(
            "id,label\n" + "".join(f"{number},c{number % 2}\n" for number in range(8))
        )
    lines = doctor(Path("set")).commands
    assert [shlex.split(line)[3:5] for line in lines] == [
        [f"set/{name}.csv", f"set/{name}"] for name in ("test", "train")
    ]


def test_two_tables_are_written_into_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "set", "a.jpg", "b.jpg")
    for name in ("one", "two"):
        (tmp_path / f"set/{name}.csv").write_text("image,label\na.jpg,x\nb.jpg,y\n")
    lines = doctor(Path("set")).commands
    assert [shlex.split(line)[4] for line in lines] == ["tables/csv", "tables/csv-2"]


def test_a_line_for_a_table_with_losses_allows_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "set", *(f"{number}.jpg" for number in range(6)))
    rows = [f"{number}.jpg,c{number % 2}" for number in range(9)]  # three are missing
    (tmp_path / "set/t.csv").write_text("\n".join(["image,label", *rows, "5.jpg", "../6.jpg,c1", ",c1", ""]))
    (line,) = doctor(Path("set")).commands
    table, _ = run_line(line)
    assert len(table) == 6


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("image,label\na.jpg,x\n".encode("utf-16"), "utf-16"),
        ("image,종류\na.jpg,바지\n".encode("cp949"), "not-utf-8"),
        (b"a.jpg,x\nb.jpg,y\n", "no-header"),
        (b"image,x,x\na.jpg,1,2\n", "unreadable-table"),
        (b"image,x\n/home/me/a.jpg,1\n/home/me/b.jpg,1\n", "bad-paths"),
    ],
)
def test_no_line_for_a_table_that_cannot_be_read(content, code, tmp_path):
    put(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "t.csv").write_bytes(content)
    checkup = doctor(tmp_path)
    assert not checkup.commands
    assert code in json.dumps(checkup.to_json())


@given(st.lists(column_names, min_size=1, max_size=5, unique=True), st.data())
def test_names_are_read_as_they_are_joined(known, data):
    chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True))
    assert [plain_name(name) for name in read_names(join_names(chosen, known), known)] == chosen
