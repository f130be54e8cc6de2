"""`ftrain submit`: the challenge's file, read back by the pipeline's reader, with the same NE as an evaluation."""

import shutil

import numpy as np
import polars as pl
import pytest
from tests.ftrain.keypoint_runs import tiny_task, write_run
from tests.shard_sets import write_shard_set

from fprep.convert.command import convert
from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, FASHIONAI_24, Visibility
from fschemas.shard_set import ShardSet
from ftrain.fit.distributed import processes
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.run_folder import RunFolder
from ftrain.metrics.normalized_error import mean_error, normalized_distances
from ftrain.tasks.task import Task
from ftrain.use.evaluate import evaluate_run
from ftrain.use.submit import HEADER, write_submission

GARMENTS = tuple(FASHIONAI_24.garments)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return ShardSet.open(
        write_shard_set(tmp_path_factory.mktemp("submit") / "set", {"train": 5, "test": 11}, FASHIONAI_24)
    )


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("submit") / "run", shards)


@pytest.fixture(scope="module")
def archive(shards, tmp_path_factory):
    """The test split as packed by the challenge: test.csv with the images next to it, in a different order."""
    folder = tmp_path_factory.mktemp("submit") / "fashionAI_key_points_test_a_20180227"
    lines = ["image_id,image_category"]
    for row in reversed(shards.rows("test").tolist()):
        image, note = shards.read(row)
        name = f"Images/{note['garment']}/{note['key']}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
        lines.append(f"{name},{note['garment']}")
    (folder / "test.csv").write_text("\n".join([*lines, ""]))
    return folder


def notes_of(shards):
    return {note["key"]: note for note in (shards.read(int(row))[1] for row in shards.rows("test"))}


def test_the_pipeline_reads_it_back_and_its_error_is_that_of_the_evaluation(shards, run, archive, tmp_path):
    out = tmp_path / "raw/answer.csv"
    assert write_submission(run, archive / "test.csv", out, tta=False, device="cpu", batch_size=4) == 11
    lines = out.read_bytes().decode().split("\n")
    assert lines[0] == ",".join(HEADER)
    assert lines[-1] == ""
    given = (archive / "test.csv").read_text().splitlines()
    assert [",".join(line.split(",")[:2]) for line in lines[1:-1]] == given[1:]
    convert("fashionai-keypoints", [out], tmp_path / "table", check_images="none")
    table = pl.read_parquet(tmp_path / "table/table.parquet")
    assert len(table) == 11
    notes = notes_of(shards)
    points, truth, visibility, sizes = [], [], [], []
    for row in table.iter_rows(named=True):
        note = notes[row["image"].rsplit("/", 1)[-1].removesuffix(".jpg")]
        assert note["garment"] == row["garment"]
        seen = np.array(row["landmark_visibility"])
        valid = list(FASHIONAI_24.valid_landmarks(row["garment"]))
        assert np.flatnonzero(seen == Visibility.VISIBLE).tolist() == valid
        assert (np.delete(seen, valid) == Visibility.NOT_APPLICABLE).all()
        points.append(np.stack([row["landmark_x"], row["landmark_y"]], axis=1))
        truth.append(np.stack([note["landmark_x"], note["landmark_y"]], axis=1))
        visibility.append(note["landmark_visibility"])
        sizes.append([note["width"], note["height"]])
    assert (np.array(points) <= np.array(sizes)[:, None] - 1).all()
    task, _, _ = RunFolder(run).load()
    task.set_tta(False)
    with processes("cpu") as group:
        results = results_of_split(task, shards, shards.rows("test"), group, 4, 0)
    expected = results["points"][::-1]  # the list has the rows in reverse
    moved = np.abs(np.array(points) - expected)[np.array(visibility) != Visibility.NOT_APPLICABLE]
    assert 0.4 < moved.max() < 0.502
    garments = table["garment"].to_list()
    evaluated = normalized_distances(points, truth, visibility, garments, *np.array(sizes).T, FASHIONAI_24)
    metrics = evaluate_run(run, shards.location, tmp_path / "out", tta=False, workers=0, device="cpu")
    exact = metrics["model"]["ne"]
    rounded = mean_error(evaluated)
    assert abs(rounded - exact) < 0.02 * exact
    assert rounded != exact


def test_a_byte_order_mark_crlf_blank_lines_and_26_columns_change_nothing(run, archive, tmp_path):
    given = (archive / "test.csv").read_text().splitlines()
    absent = ",".join(["-1_-1_-1"] * 24)
    wide = [",".join(HEADER), *(f"{line},{absent}" for line in given[1:])]
    written = []
    for name, lines in (("plain", given), ("wide", wide)):
        content = "\ufeff" + "\r\n".join([*lines[:3], "", *lines[3:], "", ""])
        (archive / f"{name}.csv").write_bytes(content.encode())
        assert write_submission(run, archive / f"{name}.csv", tmp_path / name, tta=False, device="cpu") == 11
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert written[0].count(b"\n") == 12
    assert b"\r" not in written[0]


def test_a_folder_of_runs_gives_each_garment_to_its_own(shards, archive, tmp_path):
    runs = tmp_path / "runs"
    for seed, garment in enumerate(GARMENTS):
        task = tiny_task(shards.metadata, seed=seed, garment=garment)
        write_run(runs / garment, shards, task, garment=garment)
    write_submission(runs, archive / "test.csv", tmp_path / "all.csv", tta=False, device="cpu", batch_size=3)
    lines = (tmp_path / "all.csv").read_text().splitlines()
    given = (archive / "test.csv").read_text().splitlines()
    assert [",".join(line.split(",")[:2]) for line in lines[1:]] == given[1:]
    for garment in ("skirt", "trousers"):
        own = [given[0], *(line for line in given[1:] if line.endswith(garment))]
        (archive / "own.csv").write_text("\n".join(own))
        write_submission(runs / garment, archive / "own.csv", tmp_path / "own.csv", tta=False, device="cpu")
        assert (tmp_path / "own.csv").read_text().splitlines()[1:] == [
            line for line in lines[1:] if f",{garment}," in line
        ]
    shutil.rmtree(runs / "skirt")
    with pytest.raises(
        UsageError, match=r"test\.csv:\d+: .*runs has no run for skirt; it has blouse, outwear, dress, trousers"
    ):
        write_submission(runs, archive / "test.csv", tmp_path / "none.csv", device="cpu")
    assert not (tmp_path / "none.csv").exists()


def test_augmentation_is_the_default(run, archive, tmp_path, monkeypatch):
    asked = []
    set_tta = Task.set_tta
    monkeypatch.setattr(Task, "set_tta", lambda self, views: asked.append(views) or set_tta(self, views))
    write_submission(run, archive / "test.csv", tmp_path / "a.csv", device="cpu")
    assert asked[-1] is True


ROW = "Images/skirt/s00008.jpg,skirt"
BAD_LISTS = [
    ("image,category\n", r":1: the header is 'image,category', expected image_id,image_category"),
    ("", ":1: the header is ''"),
    ("image_id,image_category\n", ": only a header"),
    (f"image_id,image_category\n{ROW},3\n", ":2: 3 columns instead of 2"),
    (
        f"image_id,image_category\n{ROW}\nImages/skirt/x.jpg,kilt\n",
        ":3: unknown category 'kilt'; expected one of blouse",
    ),
    ("image_id,image_category\nImages/skirt/none.jpg,skirt\n", r":2: Images/skirt/none\.jpg is missing; unpack"),
    ("image_id,image_category\n../secret.jpg,skirt\n", r":2: '\.\./secret\.jpg' is not a path below"),
    ("image_id,image_category\n/etc/passwd,skirt\n", ":2: '/etc/passwd' is not a path below"),
    ("image_id,image_category\n,skirt\n", ":2: '' is not a path below"),
    ("image_id,image_category\nImages/torn.jpg,skirt\n", r":2: Images/torn\.jpg: the file is empty; restore"),
    (b"image_id,image_category\nImages/\xff.jpg,skirt\n", ": byte 31 is not UTF-8"),
]


@pytest.mark.parametrize(("content", "message"), BAD_LISTS)
def test_a_bad_list_is_named_with_its_line(content, message, run, archive, tmp_path):
    (archive / "Images/torn.jpg").write_bytes(b"")
    bad = archive / "bad.csv"
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    last = f"{','.join(HEADER)}\nthe last submission"
    (tmp_path / "out.csv").write_text(last)
    with pytest.raises(UsageError, match=rf"bad\.csv{message}"):
        write_submission(run, bad, tmp_path / "out.csv", device="cpu")
    assert (tmp_path / "out.csv").read_text() == last


def test_what_cannot_be_submitted_is_refused(shards, run, archive, tmp_path):
    test = archive / "test.csv"
    before = test.read_bytes()
    with pytest.raises(UsageError, match="would replace the test list"):
        write_submission(run, test, archive / "Images/../test.csv", device="cpu")
    assert test.read_bytes() == before
    with pytest.raises(UsageError, match="raw data of fashionai-keypoints; choose a file for a submission"):
        write_submission(run, test, archive, device="cpu")
    with pytest.raises(UsageError, match=r"no such file; pass the test\.csv"):
        write_submission(run, archive / "none.csv", tmp_path / "a.csv", device="cpu")
    with pytest.raises(UsageError, match="not a run folder"):
        write_submission(tmp_path, test, tmp_path / "a.csv", device="cpu")
    other = ShardSet.open(write_shard_set(tmp_path / "set", {"train": 3}, DEEPFASHION_8))
    with pytest.raises(UsageError, match="the challenge requires fashionai-24"):
        write_submission(write_run(tmp_path / "run8", other), test, tmp_path / "a.csv", device="cpu")
    dress = write_run(tmp_path / "dress", shards, garment="dress")
    with pytest.raises(UsageError, match=r"test\.csv:\d+: the run was trained for dress only"):
        write_submission(dress, test, tmp_path / "a.csv", device="cpu")
    assert not (tmp_path / "a.csv").exists()
