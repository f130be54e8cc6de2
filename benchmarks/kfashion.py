"""Reading K-Fashion labels compared with `open` + `json.load`, in files per CPU-second.

    python benchmarks/kfashion.py [--files 6000] [--rounds 5] [--workers 2] [--convert]

The generated files resemble the release: compact JSON with a median of 4.8 KB, one to three garments with labels and
polygons of up to 100 points, keys in the order of a Java HashMap. `open` + `json.load` only parses; the reader also
builds validated Arrow columns (boxes, label ids, unknown ids, styles), with or without polygons (`--map polygons=no`).
A straightforward loop that builds the same columns from `json.load` is included, and `os.read` + orjson as a bound: it
stops where the reader begins.

All methods run in each round, in one process. The median of the ratios within rounds counts, and a missed target is
exit code 1. `--convert` also measures wall time and memory of a whole `fprep convert --check-images none`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from fprep.readers.kfashion.documents import Task, read_task
from fprep.readers.kfashion.labels import ATTRIBUTES, PARTS, STYLES
from fschemas.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before torch or another library loads OpenMP; inherited by child processes

AIMS = {"fprep kfashion": 3.0, "fprep kfashion, polygons=no": 3.0}
BASE = "open + json.load"
SIZE = (800, 1066)
CHANCES = {"카테고리": 0.95, "색상": 1.0, "서브색상": 0.4, "기장": 0.6, "소매기장": 0.8, "핏": 0.8, "넥라인": 0.4, "옷깃": 0.2,
           "소재": 0.9, "프린트": 0.9, "디테일": 0.5}  # fmt: skip
LISTS = ("소재", "프린트", "디테일")


@functools.cache
def key_order(points: int) -> tuple[str, ...]:
    """Keys of a polygon in the iteration order of a Java HashMap."""
    keys = [f"{axis}좌표{point}" for point in range(1, points + 1) for axis in "XY"]
    capacity = 16
    while 0.75 * capacity < len(keys):
        capacity *= 2

    def bucket(key: str) -> int:
        code = functools.reduce(lambda code, letter: (31 * code + ord(letter)) & 0xFFFFFFFF, key, 0)
        return (code ^ code >> 16) & (capacity - 1)

    return tuple(sorted(keys, key=bucket))


def draw_record(number: int, draw: random.Random) -> bytes:
    """Generate one file of the release."""
    parts = draw.sample(PARTS, draw.choice((1, 1, 2, 2, 2, 3)))
    rects: dict[str, Any] = {part: [{}] for part in PARTS}
    polygons: dict[str, Any] = {part: [{}] for part in PARTS}
    labels: dict[str, Any] = {"스타일": [{"스타일": draw.choice(STYLES.values)}], **{part: [{}] for part in PARTS}}
    for part in parts:
        x, y, width, height = draw.uniform(0, 300), draw.uniform(0, 400), draw.randint(50, 400), draw.randint(50, 500)
        corner = {"X": (x, width), "Y": (y, height)}
        rects[part] = [{"X좌표": shorten(x), "Y좌표": shorten(y), "가로": width, "세로": height}]
        points = key_order(draw.randint(6, 100))
        polygons[part] = [{key: shorten(corner[key[0]][0] + draw.random() * corner[key[0]][1]) for key in points}]
        labels[part] = [draw_labels(part, draw)]
    details = {"렉트좌표": rects, "폴리곤좌표": polygons, "라벨링": labels}
    name = f"Shop_{number // 7:03d}_{number % 7:02d}.jpg"
    image = {"이미지 식별자": number, "이미지 높이": SIZE[1], "이미지 파일명": name, "이미지 너비": SIZE[0]}
    about = {
        "파일 생성일자": "2020-08-10 08:33:18",
        "데이터셋 상세설명": details,
        "파일 번호": number,
        "파일 이름": name,
    }
    return json.dumps(
        {"이미지 정보": image, "데이터셋 정보": about}, ensure_ascii=False, separators=(",", ":")
    ).encode()


def draw_labels(part: str, draw: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for family, chance in CHANCES.items():
        ids = ATTRIBUTES.groups.get(f"{part}/{family}", ())
        if ids and draw.random() < chance:
            values = [ATTRIBUTES.values[number].split("/", 2)[2] for number in draw.sample(ids, draw.choice((1, 1, 2)))]
            found[family] = values if family in LISTS else values[0]
    return found


def shorten(value: float) -> float:
    """Round to six digits, as in the release."""
    return float(f"{value:.6g}")


def load_all(folder: str, names: list[str]) -> None:
    for name in names:
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            json.load(file)


def load_fast(folder: str, names: list[str]) -> None:
    for name in names:
        file = os.open(f"{folder}/{name}", os.O_RDONLY)
        orjson.loads(os.read(file, 1 << 16))
        os.close(file)


def plain_loop(folder: str, names: list[str]) -> None:
    """Build the columns of the reader in a straightforward way: no validation, no spelling variants, no unknown ids."""
    ids = ATTRIBUTES.ids
    rows: list[Any] = []
    for name in names:
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            record = json.load(file)
        details = record["데이터셋 정보"]["데이터셋 상세설명"]
        positive: list[int] = []
        garments: list[Any] = []
        for part in PARTS:
            for rect, polygon, labels in zip(
                details["렉트좌표"][part], details["폴리곤좌표"][part], details["라벨링"][part], strict=True
            ):
                if rect:
                    points = [
                        polygon[f"{axis}좌표{point}"] for point in range(1, len(polygon) // 2 + 1) for axis in "XY"
                    ]
                    garments.append((part, list(rect.values()), points))
                for family, value in labels.items():
                    values = value if isinstance(value, list) else [value]
                    positive += [ids[f"{part}/{family}/{each}"] for each in values]
        rows.append((record["이미지 정보"], details["라벨링"]["스타일"], garments, sorted(positive)))


def reader(folder: str, names: list[str], *, polygons: bool) -> None:
    for start in range(0, len(names), 256):
        result = read_task(Task(folder, "", tuple(names[start : start + 256]), "", polygons))
        assert not result.rejects
        assert not result.warnings


def measure(runs: dict[str, Callable[[str, list[str]], None]], folder: Path, rounds: int) -> list[dict[str, float]]:
    """Measure the CPU microseconds per file of each method in each round."""
    names = sorted(os.listdir(folder))
    found: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        found.append({})
        for name, run in runs.items():
            start = time.process_time()
            run(str(folder), names)
            found[-1][name] = (time.process_time() - start) / len(names) * 1e6
    return found[1:]  # the first round warms up


def print_table(rounds: list[dict[str, float]]) -> bool:
    """Print medians of the rounds and of the ratios within them; return True if a target is missed."""
    missed = False
    print(f"{'':30}  us CPU a file  files a CPU-second  times {BASE} (lowest, highest)")
    for name in rounds[0]:
        value = statistics.median(found[name] for found in rounds)
        ratios = [found[BASE] / found[name] for found in rounds]
        ratio, aim = statistics.median(ratios), AIMS.get(name)
        verdict = "" if aim is None else f"  aim {aim}: {'reached' if ratio >= aim else 'MISSED'}"
        missed |= aim is not None and ratio < aim
        print(
            f"{name:30}  {value:13.1f}  {1e6 / value:18,.0f}  {ratio:5.2f} ({min(ratios):.2f} to {max(ratios):.2f}){verdict}"
        )
    return missed


def whole_convert(folder: Path, files: int, workers: int) -> None:
    command = [
        sys.executable,
        "-m",
        "fprep.cli",
        "convert",
        "kfashion",
        str(folder),
        str(folder.with_name("table")),
        "--check-images",
        "none",
    ]
    code = "import sys; sys.argv = sys.argv[1:]; from fprep.cli import main; main()"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, "fprep", *command[3:], "--workers", str(workers), "--quiet"], check=True
    )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.perf_counter() - start
    print(
        f"fprep convert, {workers} workers: {files / seconds:,.0f} files a second, peak {usage.ru_maxrss / 1024:.0f} MiB in a process"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="K-Fashion labels: our reader against json.load")
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--convert", action="store_true", help="also convert all files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "labels"
        folder.mkdir()
        draw = random.Random(0)
        num_bytes = sum(
            (folder / f"{number}.json").write_bytes(draw_record(number, draw)) for number in range(options.files)
        )
        print(f"{options.files} files of {num_bytes / options.files:.0f} bytes")
        runs: dict[str, Callable[[str, list[str]], None]] = {
            BASE: load_all,
            "os.read + orjson": load_fast,
            "json.load and a plain loop": plain_loop,
            "fprep kfashion, polygons=no": functools.partial(reader, polygons=False),
            "fprep kfashion": functools.partial(reader, polygons=True),
        }
        missed = print_table(measure(runs, folder, options.rounds))
        if options.convert:
            whole_convert(folder, options.files, options.workers)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
