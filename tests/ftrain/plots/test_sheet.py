"""Contact sheets and label plots: reproducible bytes, nothing cut off, and correct content."""

import io

import numpy as np
import pytest
from PIL import Image

from ftrain.plots.figures import plot_bars, plot_confusion, plot_errors
from ftrain.plots.legend import Entry, Head
from ftrain.plots.sheet import Tile, drawn_colors, mistaken, sheet, shortened
from ftrain.reports.label_report import labels_of, metric_rows, part_rows, properties, spread
from ftrain.reports.text_table import aligned
from ftrain.tasks.category.answer import Line, draw_labels
from ftrain.tasks.fashionnet import report as fashionnet_report
from ftrain.tasks.keypoints import report as keypoint_report
from ftrain.tasks.retrieval import report as retrieval_report
from ftrain.tasks.style import report as style_report

pytestmark = pytest.mark.usefixtures("rendered")


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def count_near(image, color, distance=40):
    return int((np.abs(image - np.array(color)).sum(axis=2) < distance).sum())


GREEN, RED, CYAN = (0x1F, 0x8A, 0x4C), (0xD0, 0x34, 0x2C), (0x0F, 0x9F, 0xB8)


def tile(good, **more):
    return Tile(np.full((60, 40, 3), 200, np.uint8), ["a line"], good, **more)


def test_frames_tell_right_from_wrong_and_free_places_stay_free():
    tiles = [tile(True), tile(False), None, tile(None)]
    png = sheet(tiles, "Title", "subtitle", columns=2)
    assert png == sheet(tiles, "Title", "subtitle", columns=2)
    image = pixels(png)
    half = image.shape[1] // 2
    assert count_near(image[:, :half], GREEN) > 500 > count_near(image[:, half:], GREEN)
    assert count_near(image[:, half:], RED) > 500 > count_near(image[:, :half], RED)
    lower = image[image.shape[0] * 2 // 3 :, : half - 20]
    assert (lower == 255).all(), "the third place was left free"


def test_boxes_and_points_are_drawn_where_they_are():
    plain = pixels(sheet([tile(None)], "t", columns=1))[-260:]
    boxed = pixels(sheet([tile(None, boxes=[[10.0, 20.0, 29.0, 49.0]])], "t", columns=1))[-260:]
    pointed = pixels(sheet([tile(None, points=np.array([[20.0, 30.0]]))], "t", columns=1))[-260:]
    changed = np.argwhere(np.abs(boxed - plain).sum(axis=2) > 30)
    height, width = np.ptp(changed, axis=0)
    assert height / width == pytest.approx(30 / 20, rel=0.1)
    assert count_near(boxed, CYAN) > 100
    assert count_near(pointed, CYAN) > 20


def test_a_sheet_explains_what_its_tiles_have_and_nothing_else():
    plain = sheet([tile(None)], "t", columns=3)
    framed = sheet([tile(True), tile(False)], "t", columns=3)
    assert pixels(framed).shape[0] > pixels(plain).shape[0]
    head = pixels(framed)[: pixels(framed).shape[0] - pixels(plain).shape[0] + 40]
    assert count_near(head, GREEN) > 20
    assert count_near(head, RED) > 20
    assert sheet([tile(True)], "t", meaning={"good": "the same item"}) != sheet([tile(True)], "t")


@pytest.mark.parametrize("width", [2.5, 4.9, 11.8])
def test_no_line_of_a_head_is_wider_than_its_sheet(width):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = [
        Entry("dot", "#35b3f5", "predicted, left"),
        Entry("ring", "#e0245e", "a sentence of the legend that is rather long"),
    ] * 3
    head = Head(
        "A title of several words",
        "data set, synthetic garments: 1,234 images of test, NE 12.34% (11.1 to 13.2)",
        entries,
        width,
        0.12,
    )
    figure = Figure(figsize=(width, head.height))
    head.draw(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    assert len(boxes) >= 2 + len(entries)
    assert all(
        box.x0 >= 0 and box.x1 <= width * figure.dpi and box.y0 >= 0 and box.y1 <= head.height * figure.dpi
        for box in boxes
    )


def test_a_wrong_label_is_worded_one_way():
    assert mistaken("Dress", "Dress") == mistaken("Dress", None) == "Dress"
    assert mistaken("Dress", "Skirt") == "Dress (true: Skirt)"


def test_scores_that_are_no_probabilities_are_not_written_in_percent():
    image = np.full((400, 800, 3), 90, np.uint8)
    both = [draw_labels(image, [Line("floral", 0.8, probability=sure)], size=(80, 40)) for sure in (True, False)]
    assert not np.array_equal(*both)


def test_long_lines_end_with_an_ellipsis():
    assert shortened("short") == "short"
    assert shortened("a very long line indeed", 10) == "a very lo…"


def test_a_confusion_leaves_out_classes_that_nobody_has_and_bars_take_any_parts():
    matrix = np.zeros((40, 40), int)
    matrix[:3, :3] = [[5, 1, 0], [0, 4, 2], [0, 0, 7]]
    names = [f"class {number}" for number in range(40)]
    png = plot_confusion(matrix, names, "subtitle")
    assert png == plot_confusion(matrix[:3, :3], names[:3], "subtitle")
    whole = plot_bars(
        {"a": {"value": 0.5, "low": 0.4, "high": 0.6, "baseline": 0.2, "count": 9}, "b": {"value": 0.3}}, "title"
    )
    assert whole.startswith(b"\x89PNG")
    assert whole != plot_bars({"a": {"value": 0.5}, "b": {"value": 0.3}}, "title")


def test_a_drawing_has_its_box_and_panel_and_leaves_the_image_alone():
    image = np.full((400, 800, 3), 90, np.uint8)
    drawn = draw_labels(image, [Line("Dress", 0.8), Line("long", 0.4, "sleeve")], size=(80, 40), box=[10, 5, 29, 24])
    assert (image == 90).all()
    edges = np.argwhere(np.abs(drawn.astype(int) - np.array([15, 159, 184])).sum(axis=2) < 30)
    edges = edges[edges[:, 0] < 251]  # above the panel
    assert edges[:, 1].min() == pytest.approx(100, abs=3)
    assert edges[:, 1].max() == pytest.approx(300, abs=3)
    assert edges[:, 0].min() == pytest.approx(50, abs=3)
    assert (drawn[-5:, :20] != 90).any()
    assert np.array_equal(draw_labels(image, [], size=(80, 40)), image)


def test_properties_name_sizes_and_what_is_hidden():
    note = {
        "width": 100,
        "height": 100,
        "category": "Tee",
        "landmark_visibility": [2, 2, 1, -1],
        "box": [0.0, 0.0, 19.0, 19.0],
    }
    full = {
        "width": 100,
        "height": 100,
        "category": "",
        "landmark_visibility": [-1, -1, 2, 2],
        "box": [0.0, 0.0, 99.0, 89.0],
    }
    assert properties([note, full]) == {
        "category": ["Tee", ""], "box": ["small box", "large box"], "landmarks": ["one hidden", "all visible"],
    }  # fmt: skip


def test_sheets_show_best_to_worst():
    assert spread(np.array([0.9, 0.1, 0.5, 0.3]), 2) == [1, 0]
    assert spread(np.array([0.9, 0.1, 0.5, 0.3]), 9) == [1, 3, 2, 0]


def test_tables_for_a_person_leave_out_what_is_not_there():
    metrics = {"a": 0.5, "a_low": 0.4, "a_high": 0.6, "b": float("nan")}
    heading, row = metric_rows(metrics, {"a": 0.1}, {"a": "first", "b": "b"}, "baseline")
    assert heading == ["metric", "model", "baseline"]
    assert row == ["first", "50.0% (40.0 to 60.0)", "10.0%"]


def test_labels_of_unknown_names_are_minus_one():
    class Shards:
        columns = {"style": np.array(["b", "", "a", "z"])}

    assert labels_of(Shards(), np.array([0, 1, 2, 3]), "style", ["a", "b"]).tolist() == [1, -1, 0, -1]


def inside(figure):
    """Whether all texts of a figure are within its canvas, except matplotlib's axis numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels()]
    texts = [text for text in texts if text.get_text().strip()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    width, height = figure.bbox.size
    return all(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1 for box in boxes)


def test_nothing_of_a_plot_is_cut_off(monkeypatch):
    """A long subtitle over a small matrix, a bar of 100% next to its count, landmarks worse than every garment."""
    monkeypatch.setattr("ftrain.plots.figures.to_png", lambda figure: figure)
    line = "deepfashion-category, synthetic garments: 1,234 images of test, category top-1 55.6% (22.2 to 88.9)"
    assert inside(plot_confusion(np.eye(3, dtype=int), ["a", "b", "c"], line, "category: truth and answer"))
    bars = plot_bars(
        {"a": {"value": 1.0, "low": 0.9, "high": 1.0, "baseline": 1.0, "count": 1234}, "b": {"value": 0.0}},
        "title",
        line,
    )
    assert inside(bars)
    assert bars.axes[0].get_xlim()[1] > 110
    part = {"ne": 0.2, "ne_low": 0.1, "ne_high": 0.3, "mean_pose": 0.2, "count": 5}
    errors = plot_errors({"dress": part}, {"hem": {"ne": 3.0, "mean_pose": 0.1, "count": 2}}, line, "the image")
    assert inside(errors)
    assert all(axes.get_xlim()[1] > 300 for axes in errors.axes)


def test_a_color_that_the_legend_does_not_explain_is_not_drawn():
    """The sheet explains frames, boxes and landmarks of one color; colors of sides come with their entries."""
    boxes = {"boxes": [[1.0, 2.0, 9.0, 9.0]], "true_boxes": [[1.0, 2.0, 9.0, 8.0]]}
    tiles = [tile(True), tile(False, **boxes), tile(None, points=np.array([[2.0, 3.0]])), None]
    assert len(drawn_colors(tiles)) == 4
    sheet(tiles, "t")
    sided = [tile(None, points=np.array([[2.0, 3.0]]), point_colors=["#35b3f5"])]
    with pytest.raises(AssertionError, match="the legend does not explain"):
        sheet(sided, "t")
    assert sheet(sided, "t", legend=[Entry("dot", "#35b3f5", "predicted, left")])


def test_every_block_of_a_summary_has_a_heading():
    """A heading is left-aligned; the lines below belong to it."""
    part = {"value": 0.5, "baseline": 0.25}
    metrics = {
        "top_1": 0.5,
        "macro_f1": 0.5,
        "map": 0.5,
        "hit_1": 0.5,
        "queries": 2,
        "gallery": 3,
        "queries_without_match": 0,
    }
    both = {"model": metrics, "majority": metrics, "chance": metrics, "protocol": "all", "category": {"model": metrics}}
    said = {
        "keypoints": keypoint_report.summary(
            {
                "model": {"ne": 0.5},
                "mean_pose": {"ne": 0.6},
                "unit": "image",
                "garments": {"dress": {"ne": 0.5, "mean_pose": 0.6}},
            }
        ),
        "fashionnet": fashionnet_report.summary({"model": metrics, "unit": "image", "types": {"fabric": part}}),
        "retrieval": retrieval_report.summary(both),
        "style": style_report.summary(both | {"attributes": {"neck": {"map": 0.5, "chance": 0.1}}}),
        "labels": aligned(
            [
                *metric_rows(metrics, metrics, {"top_1": "top 1"}, "majority"),
                *part_rows("types", {"fabric": part}, "never"),
            ]
        ),
    }
    for task, lines in said.items():
        heading = ""
        for line in lines:
            assert line.strip(), task
            if line.rstrip().endswith("%") and "  " in line.strip():
                assert heading, (task, line)
            elif "model" in line or "mAP" in line:
                assert not line.startswith(" "), (task, line)
                heading = line
        assert heading, task
