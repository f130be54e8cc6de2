"""Image checks of `fprep convert` compared with a bare decode loop over the same files.

    python benchmarks/images.py [--images 2000] [--rounds 3]

The bare loop only opens, reads and decodes with simplejpeg. A full check also decodes, and checks header, end of file,
size, mode, orientation and digest; a header check does all of this except decoding. One process each, interleaved;
results are ratios of images per CPU-second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fschemas.cores import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before torch or another library loads OpenMP; inherited by child processes

AIMS = {"full check": 0.8, "header check": 10.0}
SIZES = {"512 px": None, "300 px": 300}


def prepare(folder: Path, images: int) -> dict[str, list[str]]:
    """Write synthetic garments at 512 pixels and copies at 300, as plain files; return names relative to the folder."""
    import cv2

    from fprep.synthetic.command import find_sample

    find_sample("fashionai-keypoints")(folder / "512 px", images=images, seed=0, workers=os.cpu_count() or 1)
    names: dict[str, list[str]] = {"512 px": [], "300 px": []}
    for path in sorted((folder / "512 px").rglob("*.jpg")):
        names["512 px"].append(str(path.relative_to(folder)))
        small = folder / "300 px" / path.name
        small.parent.mkdir(exist_ok=True)
        image = cv2.resize(cv2.imread(str(path)), (300, 300), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(small), image, [cv2.IMWRITE_JPEG_QUALITY, 87])
        names["300 px"].append(str(small.relative_to(folder)))
    return names


def loops(root: Path) -> dict[str, Callable[[str], object]]:
    """Return one function of a file name per method."""
    import simplejpeg

    from fprep.images.check import check_image

    def bare(name: str) -> object:
        with open(root / name, "rb") as file:
            return simplejpeg.decode_jpeg(file.read(), "RGB")

    return {
        "bare decode loop": bare,
        "full check": lambda name: check_image(str(root), name, decode=True),
        "header check": lambda name: check_image(str(root), name, decode=False),
    }


def rate(work: Callable[[str], object], names: list[str]) -> float:
    """Measure images per CPU-second."""
    start = time.process_time()
    for name in names:
        work(name)
    return len(names) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        contestants = loops(root)
        for data, names in prepare(root, options.images).items():
            for work in contestants.values():
                rate(work, names[:100])
            rounds = [{name: rate(work, names) for name, work in contestants.items()} for _ in range(options.rounds)]
            print(
                f"\n{data}, {options.rounds} rounds: images per CPU-second (median), and over the bare loop (lowest, highest)"
            )
            for name in contestants:
                ratios = [entry[name] / entry["bare decode loop"] for entry in rounds]
                ratio, aim = statistics.median(ratios), AIMS.get(name)
                verdict = "" if aim is None else f"aim {aim}: {'reached' if ratio >= aim else 'MISSED'}"
                missed |= aim is not None and ratio < aim
                speed = statistics.median(entry[name] for entry in rounds)
                print(f"  {name:18s} {speed:8.0f}  {ratio:6.2f} ({min(ratios):.2f} to {max(ratios):.2f})  {verdict}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
