"""`ftrain predict`: images of every kind, output names, broken files, and the same keypoints as in evaluation."""

import json
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image
from tests.ftrain.keypoint_runs import write_run
from tests.shard_sets import write_shard_set

from fschemas.failures import ExitCode, RejectedError, UsageError
from fschemas.json_file import SEAL, seal
from fschemas.landmarks import FASHIONAI_24
from fschemas.palette import SIDE_COLORS, rgb
from fschemas.preflight import is_shard_set
from fschemas.shard_set import ShardSet
from ftrain.data import user_images as images
from ftrain.data.user_images import ImageError, find_images, quiet_decoder, read_image
from ftrain.fit.distributed import processes
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.run_folder import RunFolder
from ftrain.inference.prediction_file import refuse_unreadable
from ftrain.plots.overlay import draw_landmarks
from ftrain.use.predict import PredictOptions, predict_images, predict_samples


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return ShardSet.open(
        write_shard_set(tmp_path_factory.mktemp("predict") / "set", {"train": 5, "test": 7}, FASHIONAI_24)
    )


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("predict") / "run", shards)


def gradient(width=48, height=32):
    """Smooth, so that lossy formats preserve it, with distinct corners."""
    rows, columns = np.mgrid[:height, :width]
    colors = [columns * 255 // (width - 1), rows * 255 // (height - 1), np.full_like(rows, 60)]
    return np.stack(colors, axis=2).astype(np.uint8)


def save(path, kind):
    """Save the gradient in some image format; return its expected RGB pixels."""
    expected = gradient()
    image, options = Image.fromarray(expected), {}
    luma = np.asarray(image.convert("L"))
    grey = np.repeat(luma[:, :, None], 3, axis=2)
    if kind == "grey.jpg":
        image, expected = image.convert("L"), grey
    elif kind == "cmyk.jpg":
        image = image.convert("CMYK")
    elif kind == "alpha.png":
        transparent = np.dstack([expected, np.full(luma.shape, 255, np.uint8)])
        transparent[:16, :, 3] = 0
        image, expected = Image.fromarray(transparent), np.where(transparent[:, :, 3:] == 0, 255, expected)
    elif kind == "palette.gif":
        image = image.quantize(256)
    elif kind == "clear.png":
        image = Image.fromarray(np.repeat([[0, 1]], 24, 1).repeat(32, 0).astype(np.uint8), "P")
        image.putpalette([10, 20, 30, 0, 0, 0])
        expected = np.where(np.asarray(image)[..., None] == 1, 255, np.array([10, 20, 30])).astype(np.uint8)
        options = {"transparency": 1}
    elif kind == "deep.png":
        image, expected = Image.fromarray(luma.astype(np.uint16) * 257), grey
    elif kind == "turned.jpg":
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # rotate by 90 degrees clockwise for display
        options = {"exif": exif}
    elif kind == "moving.gif":
        image, options = (
            image.quantize(256),
            {"save_all": True, "append_images": [Image.new("P", (48, 32))], "duration": 9},
        )
    elif kind == "moving.webp":
        options = {"save_all": True, "append_images": [Image.new("RGB", (48, 32))], "quality": 95}
    elif kind == "bits.png":
        image, expected = image.convert("1"), np.repeat(np.asarray(image.convert("1"))[..., None] * 255, 3, axis=2)
    image.save(path, **({"quality": 95} | options))
    return expected


KINDS = (
    "plain.jpg", "plain.png", "plain.bmp", "plain.webp", "grey.jpg", "cmyk.jpg", "alpha.png", "palette.gif", "clear.png",
    "deep.png", "turned.jpg", "moving.gif", "moving.webp", "bits.png",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_read_upright_and_opaque(kind, tmp_path):
    expected = save(tmp_path / kind, kind)
    found = read_image(tmp_path / kind)
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).mean() < 7


def png_header(width, height):
    """A PNG that declares a size and has no pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def broken(folder):
    """Unusable images, by the words of the expected message."""
    whole = simplejpeg.encode_jpeg(gradient(), quality=90)
    contents = {
        "the file is empty": b"",
        "not a JPEG, PNG, WEBP, GIF or BMP image": b"hello, world",
        "cannot be decoded": whole[: len(whole) // 2],
        "8000 x 6000 are more than 40 megapixels": png_header(8000, 6000),
        "more than 40 megapixels; make": png_header(60000, 60000),
    }
    for number, content in enumerate(contents.values()):
        (folder / f"{number}.jpg").write_bytes(content)
    return {folder / f"{number}.jpg": words for number, words in enumerate(contents)}


def test_an_image_that_cannot_be_used_reports_why(tmp_path, monkeypatch):
    with quiet_decoder():
        for path, words in broken(tmp_path).items():
            with pytest.raises(ImageError, match=words):
                read_image(path)
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path)
    monkeypatch.setattr(images, "MAX_BYTES", 1 << 20)
    (tmp_path / "big.bmp").write_bytes(bytes(2 << 20))
    with pytest.raises(ImageError, match=r"2\.0 MiB, more than 1"):
        read_image(tmp_path / "big.bmp")


def test_images_are_found_by_content_or_extension_in_order(tmp_path):
    whole = simplejpeg.encode_jpeg(gradient(), quality=90)
    for name in (
        "b/two.JPG",
        "b/one",
        "a.png",
        "c/.hidden.jpg",
        ".cache/x.jpg",
        "__MACOSX/a.png",
        "a.png~",
        "out/overlays/a.jpg",
        "note.txt",
        "d/torn.gif",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"text" if name == "note.txt" else b"" if name == "d/torn.gif" else whole)
    (tmp_path / "b/again").symlink_to(tmp_path / "a.png")  # another name is another input
    (tmp_path / "b/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find_images([tmp_path, tmp_path / "b/one", tmp_path / "note.txt"], skip=tmp_path / "out")
    assert [image.path.relative_to(tmp_path).as_posix() for image in found] == [
        "a.png", "b/again", "b/gone.jpg", "b/one", "b/two.JPG", "d/torn.gif", "note.txt",
    ]  # fmt: skip
    assert [image.name for image in found] == ["a", "b/again", "b/gone", "b/one", "b/two", "d/torn", "note"]
    with pytest.raises(UsageError, match=r"a broken link to .*nowhere.jpg"):
        find_images([tmp_path / "b/gone.jpg"])


def test_names_of_outputs_never_meet_or_leave_the_folder(tmp_path):
    whole = simplejpeg.encode_jpeg(gradient(), quality=90)
    names = ("one/a.jpg", "one/a.png", "two/a.jpg", "three/A.jpg", "one/b.jpg/c.png", "one/b.jpg.png", "one/..jpg")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(whole)
    (tmp_path / "three/A.jpg").rename(tmp_path / os.fsdecode(b"three/\xff\xfe.jpg"))
    (tmp_path / "three/A.jpg").write_bytes(whole)
    given = [
        tmp_path / "one",
        tmp_path / "two",
        *sorted((tmp_path / "three").iterdir()),
        tmp_path / "one/../two/../one/..jpg",
    ]
    found = find_images(given)
    overlays = [f"{image.name}.jpg" for image in found]
    assert len(set(map(str.lower, overlays))) == len(overlays) == 8
    root = tmp_path / "out"
    for overlay in overlays:
        assert (root / overlay).resolve().is_relative_to(root)
        assert not any(other != overlay and other.startswith(f"{overlay}/") for other in overlays)
        overlay.encode()


@pytest.mark.parametrize(
    ("given", "message"), [(["nowhere.jpg"], "nowhere.jpg: no such image"), (["empty"], "empty: no images here")]
)
def test_missing_images_are_an_error_before_any_work(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=message):
        predict_images(Path("no-run"), [Path(name) for name in given], Path("out"))
    assert not Path("out").exists()


@pytest.fixture
def album(shards, tmp_path):
    """The test images of the shard set as separate files."""
    folder = tmp_path / "album"
    folder.mkdir()
    for row in shards.rows("test"):
        image, note = shards.read(int(row))
        (folder / f"{note['key']}.jpg").write_bytes(image)
    return folder


def test_loose_images_get_the_points_that_an_evaluation_finds(shards, run, album, tmp_path):
    answers = predict_images(run, [album], tmp_path / "out", PredictOptions(device="cpu", batch_size=3))
    task, _, _ = RunFolder(run).load()
    with processes("cpu") as group:
        results = results_of_split(task, shards, shards.rows("test"), group, 7, 0)
    assert [Path(answer["image"]).stem for answer in answers] == [
        str(shards.columns["key"][row]) for row in results["row"]
    ]
    for number, answer in enumerate(answers):
        garments = list(FASHIONAI_24.garments)
        garment = garments[results["garment_scores"][number].argmax()]
        assert answer["garment"] == garment
        assert answer["garment_score"] == pytest.approx(results["garment_scores"][number].max(), abs=1e-3)
        assert [answer["width"], answer["height"]] == results["size"][number].tolist()
        valid = FASHIONAI_24.valid_landmarks(garment)
        assert [point["name"] for point in answer["points"]] == [FASHIONAI_24.names[point] for point in valid]
        places = [[point["x"], point["y"]] for point in answer["points"]]
        np.testing.assert_allclose(places, results["points"][number, list(valid)], atol=0.011)


def test_answers_and_overlays_are_published_and_renewed(run, album, tmp_path):
    out = tmp_path / "out"
    answers = predict_images(run, [album], out, PredictOptions(garment="dress", device="cpu"))
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [{name: value for name, value in json.loads(line).items() if name != SEAL} for line in lines] == answers
    assert {len(answer["points"]) for answer in answers} == {15}
    overlays = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))
    assert overlays == sorted(answer["overlay"] for answer in answers)
    with Image.open(out / answers[0]["overlay"]) as image:
        assert max(image.size) == 800
    first = (out / overlays[0]).read_bytes()
    mine = out / "overlays/mine.jpg"
    mine.write_bytes(b"not ours")
    again = predict_images(run, [album], out, PredictOptions(garment="dress", device="cpu", limit=2))
    assert again == answers[:2]
    assert sorted(path.name for path in (out / "overlays").iterdir()) == sorted(
        [*(Path(a["overlay"]).name for a in again), "mine.jpg"]
    )
    assert (out / overlays[0]).read_bytes() == first


def test_a_doctored_list_of_overlays_deletes_nothing_outside(run, album, tmp_path):
    out, precious = tmp_path / "out", tmp_path / "precious.jpg"
    out.mkdir()
    precious.write_bytes(b"mine")
    (out / "predictions.jsonl").write_text(
        json.dumps({"image": "a.jpg", "overlay": "overlays/../../precious.jpg"})
        + "\n"
        + json.dumps({"overlay": str(precious)})
    )
    predict_images(run, [album], out, PredictOptions(device="cpu", limit=1))
    assert precious.read_bytes() == b"mine"


def test_broken_images_are_answered_and_the_others_predicted(run, album, tmp_path):
    expected = broken(album)
    out = tmp_path / "out"
    answers = predict_images(run, [album], out, PredictOptions(device="cpu", batch_size=4))
    assert len(answers) == 12
    for answer in answers:
        words = expected.get(Path(answer["image"]))
        assert ("error" in answer) == (words is not None)
        assert words is None or words in answer["error"]
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 12
    with pytest.raises(RejectedError, match=r"0\.jpg: the file is empty; 5 of 12 images cannot be used") as failure:
        refuse_unreadable(answers, out / "predictions.jsonl")
    assert failure.value.exit_code == ExitCode.REJECTED == 3
    refuse_unreadable([answer for answer in answers if "error" not in answer], out / "predictions.jsonl")
    only = predict_images(run, [album / "0.jpg"], tmp_path / "only", PredictOptions(device="cpu"))
    assert only == [{"image": str(album / "0.jpg"), "error": "the file is empty"}]


def test_the_command_finishes_and_leaves_with_code_3(run, album, tmp_path, forks):
    (album / "bad.jpg").write_bytes(b"")
    arguments = ["predict", str(run), str(album), "--out", str(tmp_path / "out"), "--json", "--device", "cpu"]
    child = forks.start("cli", arguments=arguments)
    assert child.wait(180) == 3, child.text()
    progress, *lines, last = child.text().splitlines()
    assert progress == "predicting: 8/8"
    assert len([json.loads(line) for line in lines]) == 8
    assert last.startswith("ftrain: ")
    assert "1 of 8 images cannot be used" in last


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 900), (2400, 1800)])
def test_images_of_any_shape_are_predicted_inside(run, size, tmp_path):
    width, height = size
    cv2.imwrite(str(tmp_path / "a.png"), np.full((height, width, 3), 90, np.uint8))
    (answer,) = predict_images(
        run, [tmp_path / "a.png"], tmp_path / "out", PredictOptions(device="cpu", garment="skirt", tta=True)
    )
    assert (answer["width"], answer["height"]) == size
    for point in answer["points"]:
        assert 0 <= point["x"] <= width - 1
        assert 0 <= point["y"] <= height - 1
    with Image.open(tmp_path / "out" / answer["overlay"]) as image:
        assert max(image.size) == min(1600, max(800, *size))


def test_an_unknown_garment_is_refused_before_anything_is_written(run, album, tmp_path):
    with pytest.raises(UsageError, match="no garment 'sock'"):
        predict_images(run, [album], tmp_path / "out", PredictOptions(garment="sock", device="cpu"))
    assert not (tmp_path / "out").exists()


def test_one_process_is_enough(run, album, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start it without torchrun"):
        predict_images(run, [album], tmp_path / "out", PredictOptions(device="cpu"))


def test_a_drawing_marks_its_points_where_they_are_and_keeps_the_image():
    image = np.full((400, 800, 3), 128, np.uint8)
    points = [
        {"name": "hemline_left", "x": 25.0, "y": 75.0, "score": 1.0},
        {"name": "hemline_right", "x": 160.0, "y": 10.0, "score": 1.0},
    ]
    answer = {"width": 200, "height": 100, "garment": "skirt", "garment_score": 0.8, "points": points}
    drawn = draw_landmarks(image, answer, FASHIONAI_24)
    assert drawn.shape == image.shape
    assert (image == 128).all()
    assert drawn[301, 101].tolist() == [*rgb(SIDE_COLORS["left"])]  # (25 + 0.5) * 4 - 0.5: the left side
    assert drawn[41, 641].tolist() == [*rgb(SIDE_COLORS["right"])]
    assert (drawn[390, 700:] == 128).all()
    assert (draw_landmarks(image, {**answer, "points": []}, FASHIONAI_24)[200:] == 128).all()


def test_samples_of_a_shard_set_get_the_points_that_an_evaluation_finds(shards, run, tmp_path):
    task, _, _ = RunFolder(run).load()
    with processes("cpu") as group:
        results = results_of_split(task, shards, shards.rows("test"), group, 7, 0)
    out = tmp_path / "out"
    answers = predict_samples(run, shards.location, out, options=PredictOptions(device="cpu", batch_size=3))
    assert [answer["key"] for answer in answers] == [str(shards.columns["key"][row]) for row in results["row"]]
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [seal(answer) for answer in answers]
    assert sorted(path.stem for path in (out / "overlays").iterdir()) == sorted(answer["key"] for answer in answers)
    for number, answer in enumerate(answers):
        valid = list(FASHIONAI_24.valid_landmarks(answer["garment"]))
        places = [[point["x"], point["y"]] for point in answer["points"]]
        np.testing.assert_allclose(places, results["points"][number, valid], atol=0.0051)


def test_a_shard_set_can_be_predicted_without_overlays_and_with_turned_views(shards, run, tmp_path):
    options = PredictOptions(device="cpu", limit=2, overlays=False)
    plain = predict_samples(run, shards.location, tmp_path / "out", split="train", options=options)
    assert [set(answer) for answer in plain] == [
        {"key", "width", "height", "garment", "garment_score", "box", "points"}
    ] * 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.jsonl"]
    options = PredictOptions(device="cpu", limit=2, overlays=False, tta=True)
    turned = predict_samples(run, shards.location, tmp_path / "out", split="train", options=options)
    assert turned != plain
    with pytest.raises(UsageError, match=r"'autumn' has no samples; there are"):
        predict_samples(run, shards.location, tmp_path / "out", split="autumn")


def test_a_shard_set_is_reported_from_a_folder_of_images(shards, album):
    assert is_shard_set(shards.location)
    assert is_shard_set("s3://bucket/set")
    assert not is_shard_set(str(album))
    assert not is_shard_set("nowhere.jpg")
