"""Rows that do not fit into memory: wide columns on disk, worker results in order and with bounded read-ahead."""

import json
import os
import time

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.fprep.readers.kfashion.test_kfashion import DIAMOND, record, write

from fprep.convert import command as convert
from fprep.convert import conversion
from fprep.engine import map_tasks
from fprep.raw import spill
from fprep.raw.spill import SpillFile
from fschemas.failures import explain
from fschemas.table_file import read_table


def batch(values) -> bytes:
    schema = {"a": pl.Int64, "b": pl.List(pl.Int64)}
    return pl.DataFrame({"a": values, "b": [[value] * 3 for value in values]}, schema).write_ipc_stream(None).getvalue()


@pytest.mark.parametrize("in_memory", [1 << 20, 100])
def test_rows_come_back_from_where_they_were_put(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(spill, "IN_MEMORY", in_memory)
    store = SpillFile(tmp_path)
    places = pl.concat([store.append(batch(values)) for values in ([1, 2, 3], [], [4], [5, 6, 7, 8])])
    assert places.to_list() == list(range(8))
    for wanted in ([0, 1, 2, 3, 4, 5, 6, 7], [2, 3, 7], [5], []):
        found = store.read(places[wanted])
        assert found["a"].to_list() == [place + 1 for place in wanted]
        assert found["b"].to_list() == [[place + 1] * 3 for place in wanted]
    assert os.listdir(tmp_path) == []  # the file has no name
    store.close()


def test_a_full_disk_names_the_folder(tmp_path, monkeypatch):
    store = SpillFile(tmp_path)

    def refuse(content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._file, "write", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        store.append(batch([1]))
    explained = explain(caught.value)
    assert explained is not None
    assert str(tmp_path) in explained[1]
    store.close()


def tree(folder, *, turned=()):
    """30 records with images; those of `turned` are stored rotated, and labeled as stored."""
    (folder / "모던").mkdir(parents=True)
    for number in range(30):
        garments = {"상의": ((2.0, 4.0, 17, 45), DIAMOND, {"색상": "레드" if number % 2 else "블루"})}
        value = record(garments, number=number, size=(40, 60))
        (folder / "모던" / f"{number}.json").write_bytes(write(value) if number != 11 else b"{")
        image = Image.fromarray(np.full((60, 40, 3), 8 * number, np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6 if number in turned else 1
        image.save(folder / "모던" / f"{number}.jpg", exif=exif)
    return folder


def outcome(raw, out):
    report = convert.convert("kfashion", [raw], out, check_images="header", max_rejected=1.0)
    table = pl.DataFrame(read_table(out / "table.parquet"))
    return table, {**report.to_json(), "table_sha256": ""}


@pytest.mark.parametrize("turned", [(), (3, 20)])
def test_a_conversion_in_many_parts_is_the_same(tmp_path, monkeypatch, turned):
    raw = tree(tmp_path / "raw", turned=turned)
    table, report = outcome(raw, tmp_path / "whole")
    monkeypatch.setattr(spill, "IN_MEMORY", 1000)
    monkeypatch.setattr(conversion, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr("fprep.readers.kfashion.reader._TASK", 4)
    parts, other_report = outcome(raw, tmp_path / "parts")
    assert table.equals(parts)
    assert report == other_report
    assert (len(table), report["rejected"]) == (29, 1)
    widths = dict(table.select("key", "width").iter_rows())
    assert {int(key) for key, width in widths.items() if width == 60} == set(turned)
    if turned:  # 40 x 60 as displayed: the outline was rotated with the image
        first, last = (table.filter(pl.col("key") == key)["garment_polygons"][0][0].to_list() for key in ("2", "3"))
        assert first != last


def test_keys_that_occur_in_two_parts_are_distinguished_or_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(conversion, "unique_keys", lambda keys, images: [key[:1] for key in keys])
    with_images = tree(tmp_path / "raw")
    report = convert.convert("kfashion", [with_images], tmp_path / "out", check_images="none", max_rejected=1.0)
    assert report.rejected_by_rule["duplicate_key"] + report.kept == 29
    table = pl.DataFrame(read_table(tmp_path / "out/table.parquet"))
    assert table["key"].is_unique().all()
    rejected = pl.DataFrame(read_table(tmp_path / "out/rejected.parquet"))
    assert rejected.filter(pl.col("rule") == "duplicate_key")["row_file"].is_unique().all()


def test_a_dry_run_puts_nothing_beside_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "IN_MEMORY", 10)
    raw = tree(tmp_path / "raw")
    report = convert.convert("kfashion", [raw], tmp_path / "out", check_images="none", max_rejected=1.0, dry_run=True)
    assert report.kept == 29
    assert os.listdir(tmp_path) == ["raw"]
    json.dumps(report.to_json())


def nap(task: tuple[float, int]) -> int:
    time.sleep(task[0])
    return task[1]


def test_answers_come_in_order_and_not_too_far_ahead(monkeypatch):
    """Workers wait for the slow first task once they are a few chunks ahead."""
    tasks = [(1.0 if number == 0 else 0.0, number) for number in range(40)]
    most: list[int] = []
    found: list[int] = []
    counted = map_tasks(
        nap, tasks, crashed=lambda task, reason: -1, workers=2, chunk=2, ahead=2,
        progress=lambda done, total: most.append(done - len(found)),
    )  # fmt: skip
    for answer in counted:
        found.append(answer)
    assert found == list(range(40))
    assert 1 < max(most) <= 2 * 2 * 2


def test_a_worker_that_dies_costs_its_task_only():
    tasks = [(0.0, 0), (0.0, 1), (-1.0, 2), (0.0, 3), *((0.0, number) for number in range(4, 20))]
    found = list(map_tasks(die_below_zero, tasks, crashed=lambda task, reason: -task[1], workers=2, chunk=3, ahead=1))
    assert found == [0, 1, -2, *range(3, 20)]


def die_below_zero(task: tuple[float, int]) -> int:
    if task[0] < 0:
        os._exit(9)
    return task[1]
