"""The last files of a shard set: index.parquet, README.md (a Hugging Face dataset card) and finally dataset.json."""

import re
from pathlib import Path
from typing import Any

import polars as pl

from fprep.convert.source_table import SourceTable
from fprep.shard.card import dataset_card, landmark_text, license_text, vocabulary_text
from fprep.shard.plan import ShardPlan, features
from fschemas.failures import FashionkitError
from fschemas.publish import publish_bytes, publish_sealed, sha256_of
from fschemas.shard import RECORD_FOLDER, ShardRecord
from fschemas.shard_index import DIGEST_COLUMN, INDEX_FILE
from fschemas.shard_set import DATASET_FILE, FORMAT, read_dataset_file
from fschemas.splits import SPLITS
from fschemas.table_file import write_table

README_FILE = "README.md"
SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d{{6,}}\.tar")
_RECORD_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d{{6,}}\.json")

_TEXT: tuple[type[pl.DataType], ...] = (pl.String, pl.Enum, pl.Categorical)
_TEXTS = ("description",)  # free text, not labels


def finish(out: Path, source: SourceTable, plan: ShardPlan, records: list[ShardRecord]) -> None:
    """Publish index, card and dataset.json after all shards are written. `records` are in the order of the plan."""
    write_table(out / INDEX_FILE, _index(source, plan, records).to_arrow(), {"plan_id": plan.plan_id})
    metadata = _metadata(out, source, plan, records)
    publish_bytes(out / README_FILE, _card(source, metadata).encode())
    publish_sealed(out / DATASET_FILE, metadata)


def existing_plan_id(out: Path) -> str | None:
    """Return the plan id of the finished set in a folder.

    Returns None if there is no set, or its index or card does not match dataset.json.
    """
    try:
        metadata = read_dataset_file(out / DATASET_FILE, str(out))
        whole = sha256_of(out / INDEX_FILE) == metadata["index"]["sha256"] and (out / README_FILE).is_file()
        return str(metadata["plan_id"]) if whole else None
    except (OSError, FashionkitError):
        return None


def remove_unlisted_files(out: Path, names: set[str]) -> list[str]:
    """Remove shards and records that are not in `names`. Files with other kinds of names are kept."""
    removed = [path for path in out.glob("*.tar") if SHARD_NAME.fullmatch(path.name) and path.name not in names]
    records = (out / RECORD_FOLDER).glob("*.json")
    removed += [path for path in records if _RECORD_NAME.fullmatch(path.name) and f"{path.stem}.tar" not in names]
    for path in removed:
        path.unlink()
    return sorted(path.name for path in removed)


def label_columns(frame: pl.DataFrame, annotation_columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the annotation columns that samplers can use: strings and integers, no lists."""
    kinds = (*_TEXT, pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64)
    named = [name for name in annotation_columns if name not in _TEXTS]
    return tuple(name for name in named if frame.schema[name].base_type() in kinds)


def _index(source: SourceTable, plan: ShardPlan, records: list[ShardRecord]) -> pl.DataFrame:
    rows = source.frame[[row for planned in plan.shards for row in planned.rows]]
    columns: dict[str, pl.Series] = {
        "key": pl.Series([key for record in records for key in record.keys], dtype=pl.String),
        "split": rows["split"].cast(pl.String),
        "group": rows["group"],
        "copy": pl.Series([copy for planned in plan.shards for copy in planned.copies], dtype=pl.Int32),
        "shard": pl.Series([shard for shard, record in enumerate(records) for _ in record.keys], dtype=pl.Int32),
        DIGEST_COLUMN: rows["sha256"].fill_null(""),
    }
    images = [member for record in records for member in record.images]
    annotations = [member for record in records for member in record.annotations]
    for prefix, members in (("image", images), ("json", annotations)):
        columns[f"{prefix}_offset"] = pl.Series([member.offset for member in members], dtype=pl.Int64)
        columns[f"{prefix}_size"] = pl.Series([member.size for member in members], dtype=pl.Int64)
        columns[f"{prefix}_crc"] = pl.Series([member.crc for member in members], dtype=pl.Int64)
    for name in label_columns(rows, source.annotation_columns):
        columns[name] = rows[name].cast(pl.String if rows.schema[name].base_type() in _TEXT else pl.Int64)
    return pl.DataFrame(columns)


def _metadata(out: Path, source: SourceTable, plan: ShardPlan, records: list[ShardRecord]) -> dict[str, Any]:
    splits: dict[str, dict[str, int]] = {}
    for record in records:
        entry = splits.setdefault(record.split, {"samples": 0, "shards": 0})
        entry["samples"] += len(record.keys)
        entry["shards"] += 1
    table = source.metadata
    index = out / INDEX_FILE
    return {
        "format": FORMAT,
        "plan_id": plan.plan_id,
        "dataset": table.get("dataset"),
        "table": table.get("table"),
        "table_sha256": source.sha256,
        "options": plan.options,
        "lock": plan.options.get("lock"),
        "column_groups": table.get("column_groups", []),
        "landmark_set": table.get("landmark_set"),
        "vocabularies": table.get("vocabularies", {}),
        "synthetic": bool(table.get("synthetic")),
        "license": table.get("license"),
        "citation": table.get("citation"),
        "splits": splits,
        "index": {"sha256": sha256_of(index), "bytes": index.stat().st_size},
        "shards": [
            {
                "name": record.name, "split": record.split, "samples": len(record.keys),
                "bytes": record.bytes, "sha256": record.sha256,
            }
            for record in records
        ],
    }  # fmt: skip


def _card(source: SourceTable, metadata: dict[str, Any]) -> str:
    splits, first = metadata["splits"], next(iter(metadata["splits"]))
    rows = "\n".join(f"| {split} | {entry['samples']} | {entry['shards']} |" for split, entry in splits.items())
    columns = ", ".join(f"`{name}`" for name in source.annotation_columns) or "none"
    last = splits[first]["shards"] - 1
    loading = (
        "## Loading\n\nRun in this folder.\n\n```python\n"
        "import webdataset\n"
        f'samples = webdataset.WebDataset("{first}-{{000000..{last:06d}}}.tar", shardshuffle=False).decode("rgb")\n\n'
        "import datasets\n"
        f'samples = datasets.load_dataset(".", split="{first}", streaming=True)\n\n'
        "from fschemas.shard_set import ShardSet  # checked random access, as `ftrain` does\n"
        'jpeg, annotation = ShardSet.open(".").read(0)\n```'
    )
    return dataset_card(
        str(metadata["dataset"]), groups=metadata["column_groups"], num_rows=sum(entry["samples"] for entry in splits.values()),
        files={split: f"{split}-*.tar" for split in splits}, features=features(source), tags=["webdataset"],
        sections=[
            f"# {metadata['dataset']}\n\nA WebDataset written by `fprep shard`: `<key>.jpg` and `<key>.json` per sample.",
            f"| split | samples | shards |\n|---|---|---|\n{rows}",
            f"Annotation columns: {columns}. Coordinates are pixels; the center of the top left pixel is (0, 0).",
            landmark_text(metadata["landmark_set"]),
            *(vocabulary_text(column, vocabulary) for column, vocabulary in metadata["vocabularies"].items()),
            loading,
            license_text(metadata),
        ],
    )  # fmt: skip
