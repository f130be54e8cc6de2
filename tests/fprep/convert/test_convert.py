"""Guarantees of convert for all data sets: exit codes, complete outputs, independence of workers, and limits."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fprep.convert.command import convert
from fschemas.failures import EnvironmentProblem, ExitCode, RejectedError, UsageError, explain
from fschemas.landmarks import FASHIONAI_24
from fschemas.publish import exclusive
from fschemas.table_file import read_table

HEADER = ",".join(("image_id", "image_category", *FASHIONAI_24.names))
OUTPUTS = ["rejected.parquet", "report.json", "table.parquet"]


def csv_row(number: int, crotch: str = "-1_-1_-1") -> str:
    cells = [f"{10 + k}_{15 + k}_1" if k in FASHIONAI_24.garments["skirt"] else "-1_-1_-1" for k in range(24)]
    cells[FASHIONAI_24.names.index("crotch")] = crotch
    return f"Images/skirt/{hashlib.md5(str(number).encode()).hexdigest()}.jpg,skirt," + ",".join(cells)


@pytest.fixture
def raw(tmp_path):
    """40 good rows and 2 bad ones, with images."""
    rows = [csv_row(number, "oops" if number in (7, 23) else "-1_-1_-1") for number in range(42)]
    folder = tmp_path / "raw"
    (folder / "Images/skirt").mkdir(parents=True)
    for number, row in enumerate(rows):
        shade = np.full((60, 50, 3), 6 * number, np.uint8)
        Image.fromarray(shade).save(folder / row.split(",")[0], quality=95)
    (folder / "train.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


def run(raw: Path, out: Path, **options):
    return convert("fashionai-keypoints", [raw], out, **{"check_images": "header", **options})


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_keep_going_below_the_allowed_share(raw, tmp_path):
    report = run(raw, tmp_path / "out", max_rejected=0.05)
    assert (report.kept, report.rejected, report.rejected_share) == (40, 2, round(2 / 42, 6))
    assert sorted(listing(tmp_path / "out")) == OUTPUTS
    stored = listing(tmp_path / "out")
    assert hashlib.sha256(stored["table.parquet"]).hexdigest() == report.table_sha256
    assert hashlib.sha256(stored["rejected.parquet"]).hexdigest() == report.rejected_sha256


def test_keep_going_above_it_publishes_and_fails(raw, tmp_path):
    with pytest.raises(
        RejectedError, match=r"2 of 42 rows were rejected, by bad_cell \(2\).*raise --max-rejected"
    ) as caught:
        run(raw, tmp_path / "out", max_rejected=0.04)
    assert caught.value.exit_code == ExitCode.REJECTED
    assert read_table(tmp_path / "out/table.parquet").num_rows == 40


def test_fail_leaves_no_table_but_reports_why(raw, tmp_path):
    run(raw, tmp_path / "out")
    with pytest.raises(RejectedError, match=r"no table was written.*--on-reject keep-going --max-rejected 0\.05"):
        run(raw, tmp_path / "out", on_reject="fail")
    assert sorted(listing(tmp_path / "out")) == ["rejected.parquet", "report.json"]
    assert not json.loads((tmp_path / "out/report.json").read_text())["published"]
    assert read_table(tmp_path / "out/rejected.parquet").num_rows == 2


def test_fail_without_rejects_is_no_failure(raw, tmp_path):
    text = (raw / "train.csv").read_text().splitlines()
    (raw / "train.csv").write_text("\n".join(line for line in text if "oops" not in line))
    assert run(raw, tmp_path / "out", on_reject="fail").kept == 40
    assert sorted(listing(tmp_path / "out")) == OUTPUTS


def test_empty_table_is_an_error(raw, tmp_path):
    (raw / "train.csv").write_text(f"{HEADER}\n{csv_row(1, 'oops')}\n")
    with pytest.raises(RejectedError, match="no row is left for a table: 1 of 1 rows were rejected"):
        run(raw, tmp_path / "out", max_rejected=1.0)
    assert sorted(listing(tmp_path / "out")) == ["rejected.parquet", "report.json"]


def test_file_with_a_header_only(raw, tmp_path):
    (raw / "train.csv").write_text(f"{HEADER}\n")
    with pytest.raises(RejectedError, match="no row is left for a table: no file contains any"):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize("images", ["header", "full"])
def test_output_does_not_depend_on_workers(raw, tmp_path, images):
    outputs = []
    for workers in (1, 2, 3):
        run(raw, tmp_path / str(workers), check_images=images, workers=workers)
        outputs.append(listing(tmp_path / str(workers)))
    assert outputs[0] == outputs[1] == outputs[2]


def test_output_does_not_depend_on_environment(raw, tmp_path):
    """Another hash seed, locale, time zone or working folder gives the same bytes."""
    run(raw, tmp_path / "here", check_images="full")
    program = (
        "import sys, pathlib\nfrom fprep.convert.command import convert\n"
        "if __name__ == '__main__':\n"
        "    convert('fashionai-keypoints', [pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), check_images='full')\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "17", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", program, str(raw), str(tmp_path / "there")]
    subprocess.run(command, check=True, env=environment, cwd="/", timeout=120)
    assert listing(tmp_path / "here") == listing(tmp_path / "there")


def test_full_disk_leaves_the_earlier_conversion_whole(raw, tmp_path):
    run(raw, tmp_path / "out")
    before = listing(tmp_path / "out")
    program = (
        "import resource, sys, pathlib\nfrom fprep.convert.command import convert\nfrom fschemas.failures import explain\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "try:\n"
        "    convert('fashionai-keypoints', [pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), check_images='none')\n"
        "except BaseException as error:\n"
        "    code, sentence = explain(error)\n"
        "    print(int(code), sentence)\n"
    )
    command = [sys.executable, "-c", program, str(raw), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout.startswith("4 "), result
    assert "would be larger than allowed" in result.stdout
    assert str(tmp_path / "out") in result.stdout
    assert listing(tmp_path / "out") == before


def test_leftovers_of_a_killed_run_are_removed(raw, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".tmp.table.parquet.4711").write_bytes(b"half")
    run(raw, out)
    assert sorted(listing(out)) == OUTPUTS


def test_second_writer_is_refused(raw, tmp_path):
    with exclusive(tmp_path / "out"), pytest.raises(EnvironmentProblem, match="is writing here"):
        run(raw, tmp_path / "out")


def test_file_in_the_place_of_the_output(raw, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="this is a file"):
        run(raw, tmp_path / "out")


def test_output_below_a_file_is_explained(raw, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        run(raw, tmp_path / "file" / "out")
    explained = explain(caught.value)
    assert explained is not None
    assert str(tmp_path / "file") in explained[1]


def test_dry_run_writes_nothing(raw, tmp_path):
    report = run(raw, tmp_path / "out", dry_run=True)
    assert (report.kept, report.published) == (40, False)
    assert not (tmp_path / "out").exists()


def test_limit_takes_rows_from_everywhere(raw, tmp_path):
    report = run(raw, tmp_path / "out", limit=4)
    assert (report.kept, report.left_out, report.rejected) == (4, 36, 2)
    lines = read_table(tmp_path / "out/table.parquet").column("source_line").to_pylist()
    assert report.rejected_share == round(2 / 42, 6)
    assert lines[0] == 2
    assert lines[-1] > 30


def test_raw_root_leads_from_the_table_to_the_images(raw, tmp_path):
    run(raw, tmp_path / "deep/er/out")
    from fschemas.table_file import read_metadata

    out = tmp_path / "deep/er/out"
    root = out / read_metadata(out / "table.parquet")["raw_root"]
    images = read_table(out / "table.parquet").column("image").to_pylist()
    assert all((root / image).is_file() for image in images)
    assert str(tmp_path).encode() not in b"".join(listing(out).values())


def test_progress_names_its_stages(raw, tmp_path):
    seen: list[tuple[str, int, int]] = []
    run(raw, tmp_path / "out", progress=lambda *step: seen.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == ["read", "images", "check", "publish"]
    assert all(done <= total for _, done, total in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rejected": 1.5}, "--max-rejected"),
        ({"val_share": 0.6, "test_share": 0.4}, "leave some rows for train"),
        ({"limit": 0}, "--limit 0"),
    ],
)
def test_wrong_options(raw, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        run(raw, tmp_path / "out", **options)


@pytest.mark.parametrize("given", [[], ["missing"]])
def test_raw_folder_that_is_not_there(tmp_path, given):
    with pytest.raises(UsageError, match=r"no raw folder given|no such file or folder"):
        convert("fashionai-keypoints", [tmp_path / name for name in given], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hostile_images_reject_rows_and_nothing_else(raw, tmp_path):
    names = [line.split(",")[0] for line in (raw / "train.csv").read_text().splitlines()[1:]]
    whole = (raw / names[0]).read_bytes()
    (raw / names[1]).write_bytes(b"")
    (raw / names[2]).write_bytes(whole[: len(whole) // 2])
    (raw / names[3]).unlink()
    (raw / names[4]).write_bytes(b"<html>")
    (raw / names[5]).write_bytes(whole)
    (raw / names[6]).unlink()
    os.mkfifo(raw / names[6])
    report = run(raw, tmp_path / "out", check_images="full", max_rejected=0.5)
    assert report.rejected_by_rule == {
        "bad_cell": 2, "duplicate_image": 1, "image_not_a_file": 1, "missing_image": 1, "not_an_image": 1,
        "truncated_image": 1, "zero_byte_image": 1,
    }  # fmt: skip
    assert report.kept == 34
