"""`ftrain query`: results, known items, sheets, options, broken images, moved folders, and the commands themselves."""

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest
import simplejpeg
from tests.ftrain.known_tasks import use_tasks
from tests.ftrain.search_runs import SPLITS, find, image_of, write_items, write_run
from typer.testing import CliRunner

from fschemas.failures import IntegrityError, RejectedError, UsageError
from fschemas.json_file import seal
from fschemas.publish import sha256_of
from fschemas.shard_set import ShardSet
from fschemas.table_file import read_table, write_table
from ftrain.cli import app
from ftrain.inference.prediction_file import refuse_unreadable
from ftrain.plots.sheet import GOOD_COLOR
from ftrain.search.build import build_index
from ftrain.search.index_file import IndexFolder
from ftrain.search.query import query_index


@pytest.fixture(autouse=True)
def _likes(monkeypatch):
    use_tasks(monkeypatch, find)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Shards, run, index of the gallery, and images as in the raw folder: 6 is a query, 12 is indexed."""
    use_tasks(monkeypatch, find)
    write_items(tmp_path / "shards")
    write_run(tmp_path / "run", tmp_path / "shards")
    build_index(tmp_path / "run", str(tmp_path / "shards"), tmp_path / "index", workers=0)
    for number in (6, 12):
        path = tmp_path / f"raw/photos/item{number % 6}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(image_of(number), quality=95))
    return tmp_path


def ask(place, *photos, **options):
    given = photos or (place / "raw/photos/item0/6.jpg",)
    return query_index(place / "index", list(given), place / "out", **options)


def test_the_item_is_found_and_the_hits_are_known(place):
    (answer,) = ask(place, top=5)
    assert answer["item"] == "item0"  # from the query split, which is not indexed, by content
    assert answer["in_index"] == []
    assert [match["item"] for match in answer["matches"]][:2] == ["item0", "item0"]
    assert [match["hit"] for match in answer["matches"]] == [True, True, False, False, False]
    assert [match["rank"] for match in answer["matches"]] == [1, 2, 3, 4, 5]
    scores = [match["score"] for match in answer["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.9
    assert [json.loads(line) for line in (place / "out/results.jsonl").read_text().splitlines()] == [seal(answer)]


def test_another_name_of_an_image_is_another_input(place):
    photo = place / "raw/photos/item0/6.jpg"
    (place / "link.jpg").symlink_to(photo)
    (place / "hard.jpg").hardlink_to(photo)
    answers = ask(place, photo, place / "link.jpg", place / "hard.jpg", top=3)
    assert [answer["image"] for answer in answers] == [str(photo), str(place / "link.jpg"), str(place / "hard.jpg")]
    assert answers[0]["matches"] == answers[1]["matches"] == answers[2]["matches"]
    assert len(list((place / "out/sheets").iterdir())) == 3


def test_a_photo_of_the_index_is_not_its_own_answer(place):
    (answer,) = ask(place, place / "raw/photos/item0/12.jpg", top=12)
    assert answer["in_index"] == ["s0012"]
    assert answer["item"] == "item0"
    keys = [match["key"] for match in answer["matches"]]
    assert len(keys) == 11
    assert "s0012" not in keys
    assert keys[0] == "s0018"


def test_a_photo_from_elsewhere_has_no_item_unless_told(place):
    (place / "12.jpg").write_bytes(simplejpeg.encode_jpeg(image_of(12), quality=90))
    (answer,) = ask(place, place / "12.jpg")
    assert answer["item"] == ""
    assert {match["hit"] for match in answer["matches"]} == {None}
    assert answer["matches"][0]["score"] == pytest.approx(1, abs=1e-2)
    (told,) = ask(place, place / "12.jpg", item="item0")
    assert [match["hit"] for match in told["matches"]][:3] == [True, True, False]


def test_an_image_is_known_by_its_content_and_not_by_its_path(place):
    """An unknown image at the path of an indexed one, and an indexed image under another name."""
    stranger, renamed = place / "customer/photos/item0/12.jpg", place / "other/photo.jpg"
    for path, number in ((stranger, 13), (renamed, 12)):
        path.parent.mkdir(parents=True)
        path.write_bytes(simplejpeg.encode_jpeg(image_of(number), quality=95 if number == 12 else 90))
    at_path, by_content = ask(place, stranger, renamed, top=12)
    assert (at_path["in_index"], at_path["item"], len(at_path["matches"])) == ([], "", 12)
    assert {match["hit"] for match in at_path["matches"]} == {None}
    assert (by_content["in_index"], by_content["item"], len(by_content["matches"])) == (["s0012"], "item0", 11)


def test_the_source_image_is_known_where_shards_hold_a_smaller_one(place):
    """The digest in the index of the set counts, not the stored JPEG."""
    digests = [hashlib.sha256(b"source of %d" % number).hexdigest() for number in range(sum(SPLITS.values()))]
    path = place / "shards/index.parquet"
    write_table(path, read_table(path).append_column("sha256", [digests]))
    metadata = json.loads((place / "shards/dataset.json").read_text())
    metadata["index"] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    (place / "shards/dataset.json").write_text(json.dumps(seal(metadata)))
    opened = ShardSet.open(place / "shards")
    assert "sha256" not in opened.columns
    assert opened.image_digests(np.array([3, 12])) == [digests[3], digests[12]]
    build_index(place / "run", str(place / "shards"), place / "index", workers=0)
    (answer,) = ask(place, place / "raw/photos/item0/12.jpg", top=12)
    assert (answer["in_index"], answer["item"]) == ([], "")
    assert IndexFolder.open(place / "index").items["sha256"].tolist() == digests[10:]


def green(sheet):
    color = [int(GOOD_COLOR[start : start + 2], 16) for start in (1, 3, 5)]
    return int((np.abs(sheet.astype(int) - color).sum(axis=2) < 6).sum())


def test_sheets_frame_hits_and_show_the_images(place, rendered):
    (answer,) = ask(place, top=4)
    path = place / "out" / answer["sheet"]
    assert answer["sheet"] == "sheets/6.png"
    sheet = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    (other,) = ask(place, top=4, item="item5")
    without = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert green(sheet) > green(without) + 500
    shutil.rmtree(place / "shards")
    ask(place, top=4, item="item0")  # thumbnails are missing, results are not
    assert green(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)) > 500
    assert len(other["matches"]) == 4


@pytest.mark.parametrize("says", ["embedding", "color"])
def test_metric_color_and_reranking_change_scores(place, says):
    write_run(place / "other", place / "shards", says)
    build_index(place / "other", str(place / "shards"), place / "index", workers=0)
    plain, far = ask(place, top=3)[0], ask(place, top=3, metric="euclidean", color_weight=0.5)[0]
    first = far["matches"][0]
    assert first["score"] == pytest.approx(first["deep"] + 0.5 * first["color"], abs=2e-6)
    assert first["color"] < 0
    assert first["deep"] == pytest.approx(-np.sqrt(2 - 2 * plain["matches"][0]["score"]), abs=1e-3)
    again = ask(place, top=3, rerank=True)[0]
    assert again["reranked"]
    assert [match["item"] for match in again["matches"]][:2] == ["item0", "item0"]
    assert again["matches"][0]["score"] <= 0


def test_broken_photos_are_reported_and_old_sheets_go(place):
    ask(place, place / "raw")
    assert len(list((place / "out/sheets").rglob("*.png"))) == 2
    (place / "bad.jpg").write_bytes(b"no image")
    answers = ask(place, place / "bad.jpg", place / "raw/photos/item0/12.jpg")
    assert "not a JPEG" in answers[0]["error"]
    assert answers[1]["matches"]
    assert [path.name for path in (place / "out/sheets").rglob("*.png")] == ["12.png"]
    with pytest.raises(RejectedError, match=r"bad\.jpg: .*1 of 2 images cannot be used.*results\.jsonl"):
        refuse_unreadable(answers, place / "out/results.jsonl")
    assert ask(place, place / "bad.jpg")[0]["image"].endswith("bad.jpg")


def test_folders_may_move_together_or_be_named(place, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved")
    for name in ("run", "index", "shards"):
        shutil.copytree(place / name, moved / name)
    photo = place / "raw/photos/item0/6.jpg"
    shutil.rmtree(place / "run")
    assert query_index(moved / "index", [photo], place / "out", top=2)[0]["matches"][0]["item"] == "item0"
    with pytest.raises(UsageError, match=r"its run is no longer at .*--run"):
        ask(place)
    assert ask(place, run=moved / "run", shards=str(moved / "shards"))[0]["matches"]


def test_what_does_not_fit_is_refused(place):
    write_run(place / "other", place / "shards", gain=2.0)
    with pytest.raises(UsageError, match="was not built with the weights of"):
        ask(place, run=place / "other")
    write_items(place / "more", {"train": 2})
    note = json.loads((place / "more/dataset.json").read_text())
    (place / "more/dataset.json").write_text(json.dumps(seal({**note, "plan_id": "another plan"})))
    with pytest.raises(UsageError, match="was built from another shard set"):
        ask(place, shards=str(place / "more"))
    with pytest.raises(UsageError, match="no finished shard set"):
        ask(place, shards=str(place / "nothing"))
    with pytest.raises(UsageError, match="this is a run folder, but a search index is needed here"):
        query_index(place / "run", [place / "raw"], place / "out")
    with pytest.raises(UsageError, match="must be at least 1"):
        ask(place, top=0)
    build_index(place / "run", str(place / "shards"), place / "index", workers=0, color=False)
    with pytest.raises(UsageError, match="the index has no color features"):
        ask(place, color_weight=0.1)
    path = place / "index/features.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="changed"):
        ask(place)


def test_the_commands(place, monkeypatch):
    runner = CliRunner()
    monkeypatch.chdir(place)
    done = runner.invoke(app, ["index", "run", "shards", "again", "--split", "query+gallery", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert "18 images of gallery, query, 48 dimensions, colors of the image" in done.output
    done = runner.invoke(
        app, ["query", "again", "raw", "--out", "found", "--top", "3", "--color-weight", "0.2", "--json"]
    )
    assert done.exit_code == 0, done.output
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["in_index"] for answer in answers] == [["s0012"], ["s0006"]]
    assert all(len(answer["matches"]) == 3 for answer in answers)
    assert answers[0]["color_weight"] == 0.2
