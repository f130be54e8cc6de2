"""`ftrain index`: content of the folder, damage, tuning of approximate search, and incompatible runs and sets."""

import json
import sys

import numpy as np
import pytest
from tests.ftrain.known_tasks import use_tasks
from tests.ftrain.search_runs import SPLITS, find, image_of, write_items, write_run

from fschemas.failures import EnvironmentProblem, IntegrityError, NonFiniteError, UsageError
from fschemas.publish import exclusive, publish_sealed, sha256_of
from ftrain.data.color import color_feature
from ftrain.metrics.exact_search import ExactSearch, Features, Similarity
from ftrain.search.approximate import Approximation, build_approximate
from ftrain.search.build import build_index, deep_features
from ftrain.search.index_file import FEATURES_FILE, INDEX_FILE, IndexFolder, write_index


@pytest.fixture(autouse=True)
def _likes(monkeypatch):
    use_tasks(monkeypatch, find)


@pytest.fixture
def shards(tmp_path):
    return write_items(tmp_path / "shards")


def build(tmp_path, shards, says="embedding", out="index", **options):
    run = tmp_path / f"run-{says}"
    if not run.exists():
        write_run(run, shards, says)
    return build_index(run, str(shards), tmp_path / out, workers=0, **options)


def test_the_gallery_is_indexed_with_its_labels(tmp_path, shards):
    note = build(tmp_path, shards)
    opened = IndexFolder.open(tmp_path / "index")
    assert len(opened) == SPLITS["gallery"] == note["samples"]
    assert note["splits"] == ["gallery"]
    assert opened.items["key"].tolist() == [f"s{number:04d}" for number in range(10, 22)]
    assert opened.items["item"].tolist() == [f"item{number % 6}" for number in range(10, 22)]
    assert opened.items["image"][0] == "photos/item4/10.jpg"
    assert opened.items["category"][:2].tolist() == ["Dress", "Skirt"]
    np.testing.assert_allclose(np.linalg.norm(opened.features.deep, axis=1), 1, atol=1e-6)
    assert (tmp_path / "index" / note["run"]["path"]).resolve() == (tmp_path / "run-embedding").resolve()
    assert str(tmp_path) not in (tmp_path / "index" / INDEX_FILE).read_text()
    found = ExactSearch(opened.features).search(opened.features, Similarity(), 2)
    labels = opened.items["item"][found.rows]
    assert (labels[:, 0] == labels[:, 1]).all()  # each item has two images, and each finds the other


def test_embeddings_of_each_attribute_stand_side_by_side():
    """Styles are B, 1, D: normalized along the 1, an index held only signs, and no query could open it."""
    parts = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    deep = deep_features({"embedding": parts})
    np.testing.assert_allclose(
        deep, parts.reshape(5, 12) / np.linalg.norm(parts.reshape(5, 12), axis=1, keepdims=True), rtol=1e-6
    )


def test_splits_can_be_named_and_an_index_is_replaced(tmp_path, shards):
    build(tmp_path, shards, says="color")
    assert (tmp_path / "index/colors.npy").exists()
    note = build(tmp_path, shards, splits=["train", "query"], color=False)
    assert note["samples"] == SPLITS["train"] + SPLITS["query"]
    assert not (tmp_path / "index/colors.npy").exists()
    assert IndexFolder.open(tmp_path / "index").features.color is None


def test_a_set_without_gallery_is_indexed_whole(tmp_path):
    note = build(tmp_path, write_items(tmp_path / "shards", {"train": 5, "test": 3}))
    assert note["splits"] == ["test", "train"]
    assert note["samples"] == 8


def test_colors_are_the_networks_own_or_those_of_the_images(tmp_path, shards):
    own, other = build(tmp_path, shards, says="color"), build(tmp_path, shards, out="other")
    assert (own["color"], own["color_dimensions"]) == ("network", 3)
    assert (other["color"], other["color_dimensions"]) == ("image", 125)
    colors = IndexFolder.open(tmp_path / "other").features.color
    assert colors[0] @ color_feature(image_of(10)) > 0.98


def test_the_same_input_gives_the_same_bytes(tmp_path, shards):
    build(tmp_path, shards, says="color")
    build(tmp_path, shards, says="color", out="again")
    for path in (tmp_path / "index").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["features.npy", "colors.npy", "items.parquet"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damage_is_noticed(tmp_path, shards, name, harm):
    build(tmp_path, shards)
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if harm == "flip" else content[:-1])
    with pytest.raises(IntegrityError, match=rf"{name}: .*build the index again"):
        IndexFolder.open(tmp_path / "index")


def seal(folder, **changes):
    """Rewrite index.json with new digests, as in tampering."""
    note = json.loads((folder / INDEX_FILE).read_bytes())
    note["files"] = {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256_of(folder / n)} for n in note["files"]}
    publish_sealed(folder / INDEX_FILE, {**note, **changes})


def test_arrays_of_another_kind_are_refused(tmp_path, shards):
    build(tmp_path, shards)
    folder = tmp_path / "index"
    seal(folder, dimensions=7)
    with pytest.raises(IntegrityError, match=r"features\.npy: float32 \(12, 48\) instead of float32 \(12, 7\)"):
        IndexFolder.open(folder)
    with open(folder / FEATURES_FILE, "wb") as file:
        np.save(file, np.array([{"run": "this"}], dtype=object), allow_pickle=True)
    seal(folder)
    with pytest.raises(IntegrityError, match=r"not a plain \.npy file"):
        IndexFolder.open(folder)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (None, UsageError, "no finished index here"),
        (b"{", IntegrityError, "not valid JSON"),
        (b"[]", IntegrityError, "contains a list"),
        (b'{"format": "fashionkit-index/9"}', UsageError, "this version reads fashionkit-index/2"),
        (b'{"format": "fashionkit-index/2"}', IntegrityError, "samples is missing"),
    ],
)
def test_index_json_of_every_kind(tmp_path, content, kind, words):
    if content is not None:
        (tmp_path / INDEX_FILE).write_bytes(content)
    with pytest.raises(kind, match=words):
        IndexFolder.open(tmp_path)


def test_a_build_that_was_cut_short_leaves_no_index(tmp_path, shards, monkeypatch):
    build(tmp_path, shards)
    monkeypatch.setattr(
        "ftrain.search.index_file.write_table", lambda *_: (_ for _ in ()).throw(OSError(28, "no space"))
    )
    with pytest.raises(OSError, match="no space"):
        build(tmp_path, shards, says="color")
    with pytest.raises(UsageError, match="no finished index"):
        IndexFolder.open(tmp_path / "index")


def test_runs_and_sets_that_do_not_fit(tmp_path, shards, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            "ftrain.search.build.results_of_split", lambda *_, **__: pytest.fail("every image went through it first")
        )
        with pytest.raises(UsageError, match="the task likes has no embeddings"):
            build(tmp_path, shards, says="nothing")
    with pytest.raises(NonFiniteError, match="12 of 12 embeddings are 0 or not finite"):
        build(tmp_path, shards, says="zeros")
    with pytest.raises(UsageError, match="val"):
        build(tmp_path, shards, splits=["val"])
    with pytest.raises(UsageError, match=r"recall 1\.5: must be above 0"):
        build(tmp_path, shards, kind="ivf", recall=1.5)
    with exclusive(tmp_path / "index"), pytest.raises(EnvironmentProblem, match="is writing here"):
        build(tmp_path, shards)
    with pytest.raises(UsageError, match="12 images are too few"):
        build(tmp_path, shards, kind="hnsw")


def test_without_faiss_a_sentence_reports_what_to_do(tmp_path, shards, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(EnvironmentProblem, match=r"faiss is not installed.*fashionkit\[index\].*--kind exact"):
        build(tmp_path, shards, kind="ivf")
    assert not (tmp_path / "index").exists()
    build(tmp_path, shards)  # exact search has no requirements


def clusters(count=3000, dims=200, seed=0):
    """Six views of each item along few components, like those of a network."""
    generator = np.random.default_rng(seed)
    axes = np.arange(1, dims + 1) ** -0.9
    items = np.repeat(generator.normal(size=(-(-count // 6), dims)) * axes, 6, axis=0)[:count]
    deep = (items + 0.4 * generator.normal(size=(count, dims)) * axes).astype(np.float32)
    return Features(deep / np.linalg.norm(deep, axis=1, keepdims=True))


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_sweep_keeps_its_word(tmp_path, kind):
    gallery = clusters()
    built = build_approximate(gallery, kind, 0.97)
    approximation = built.approximation
    assert approximation.reached
    assert approximation.specification.startswith("PCA96,")
    chosen = approximation.sweep[-1]
    assert chosen.value == approximation.value > 1  # more than one list must be probed
    assert chosen.low >= 0.97 > approximation.sweep[-2].low
    assert all(
        first.compared < second.compared
        for first, second in zip(approximation.sweep, approximation.sweep[1:], strict=False)
    )
    queries = gallery[np.arange(0, 3000, 10)]
    exact, found = ExactSearch(gallery).search(queries, Similarity(), 20), built.search(queries, Similarity(), 20)
    assert (found.scores >= exact.scores[:, -1:] - 1e-9).mean() > 0.96
    same = found.rows == exact.rows
    np.testing.assert_array_equal(found.scores[same], exact.scores[same])  # scores are exact, not the index's
    note = {"run": {"path": "run"}, "shards": {"path": "shards"}, "splits": []}
    labels = {name: [""] * 3000 for name in ("key", "split", "item", "category", "image", "sha256")} | {
        "row": np.arange(3000)
    }
    written = write_index(tmp_path, gallery, labels, note, built)
    assert Approximation.from_json(written["approximate"]) == approximation
    opened = IndexFolder.open(tmp_path).searcher()
    np.testing.assert_array_equal(opened.search(queries, Similarity(), 20).rows, found.rows)
    path = tmp_path / "approximate.faiss"
    first = path.read_bytes()
    write_index(tmp_path, gallery, labels, note, build_approximate(gallery, kind, 0.97))
    assert path.read_bytes() == first
    path.write_bytes(first[:5000])
    seal(tmp_path)
    with pytest.raises(IntegrityError, match=r"approximate\.faiss: not an index"):
        IndexFolder.open(tmp_path).searcher()


def test_an_index_that_cannot_reach_its_recall_or_gains_nothing_reports_so(monkeypatch):
    generator = np.random.default_rng(0)
    deep = generator.normal(size=(2000, 512)).astype(np.float32)
    gallery = Features(deep / np.linalg.norm(deep, axis=1, keepdims=True))
    approximation = build_approximate(gallery, "ivf", 0.95).approximation
    assert approximation.specification == "IVF128,SQ8"  # without structure, no few components hold the variance
    assert approximation.reached
    assert "of 1,800 images, which gains little; use --kind exact" in approximation.lines()[-1]
    monkeypatch.setattr("ftrain.search.approximate._SHORTLIST", (20, 1.0))  # compression swaps some of the last
    approximation = build_approximate(gallery, "ivf", 1.0).approximation
    assert not approximation.reached
    assert approximation.recall == max(row.recall for row in approximation.sweep)
    assert "WARNING: recall@20 1 is out of reach" in approximation.lines()[-1]


def test_few_probed_rows_never_shorten_an_answer():
    gallery = clusters(400)
    built = build_approximate(gallery, "ivf", 0.9)
    built.probe(1)
    assert (
        built.search(gallery[:5], Similarity(), 200).rows
        == ExactSearch(gallery).search(gallery[:5], Similarity(), 200).rows
    ).all()


def test_color_widens_the_short_list():
    gallery = clusters(1000)
    colors = np.abs(np.random.default_rng(1).normal(size=(1000, 8))).astype(np.float32)
    gallery = Features(gallery.deep, colors / np.linalg.norm(colors, axis=1, keepdims=True))
    built = build_approximate(gallery, "hnsw", 0.99)
    queries, similarity = gallery[np.arange(0, 1000, 20)], Similarity("cosine", 0.1)
    exact, found = ExactSearch(gallery).search(queries, similarity, 10), built.search(queries, similarity, 10)
    assert (found.scores >= exact.scores[:, -1:] - 1e-9).mean() > 0.95
