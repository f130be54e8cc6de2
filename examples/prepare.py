"""From a raw folder to shards: `python examples/prepare.py fashionai-keypoints RAW OUT`.

`fprep readers` lists the data sets; `fprep sample fashionai-keypoints RAW --num-images 200` writes a synthetic one to
try.
"""

import argparse
from pathlib import Path

import fprep

parser = argparse.ArgumentParser(description="Convert a raw data set and write it into shards.")
parser.add_argument("dataset", help="name of the reader")
parser.add_argument("raw", type=Path, help="folder of the unpacked data set")
parser.add_argument("out", type=Path, help="folder to write the table and the shards into")
parser.add_argument("--size", type=int, default=320, help="longest side of the stored images, pixels")
options = parser.parse_args()

report = fprep.convert(options.dataset, options.raw, options.out / "table")
print(f"{report.kept} of {report.lines} lines kept, {report.rejected} rejected; see {options.out}/table/report.json")

summary = fprep.shard(options.out / "table", options.out / "shards", size=options.size)
print(f"{summary['shards']} shards, {summary['bytes'] / 1e6:.1f} MB: {summary['splits']}")
