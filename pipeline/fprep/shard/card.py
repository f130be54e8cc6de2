"""The Hugging Face dataset card (README.md) of a shard set or export; huggingface_hub writes its metadata."""

from collections.abc import Iterable, Mapping
from typing import Any

_TASKS = {
    "landmarks": "keypoint-detection", "box": "object-detection", "garments": "object-detection", "category": "image-classification",
    "attributes": "image-classification", "style": "image-classification", "item": "image-feature-extraction",
}  # fmt: skip
_SIZES = {
    1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M",
}  # fmt: skip


def dataset_card(
    name: str,
    *,
    groups: Iterable[str],
    num_rows: int,
    files: Mapping[str, str],
    features: list[dict[str, Any]],
    sections: Iterable[str],
    tags: Iterable[str] = (),
) -> str:
    """Return the dataset card of `name`. `files` are glob patterns by split, `sections` are Markdown.

    Without `features`, `datasets` infers types from the first samples: it truncates 1.5 to 1, and an empty list becomes
    a list of null.
    """
    # Takes half a second and is only needed at the end of a command.
    from huggingface_hub import DatasetCard, DatasetCardData

    tasks = list(dict.fromkeys(_TASKS[group] for group in groups if group in _TASKS))
    data_files = [{"split": split, "path": path} for split, path in files.items()]
    data = DatasetCardData(
        license="other",
        license_name="see-card",
        pretty_name=name,
        task_categories=tasks or ["image-feature-extraction"],
        tags=[*tags, "fashion"],
        size_categories=[next((size for limit, size in _SIZES.items() if num_rows < limit), "n>10M")],
        configs=[{"config_name": "default", "default": True, "data_files": data_files}],
        dataset_info={"config_name": "default", "features": features},
    )
    body = "\n\n".join(section for section in sections if section)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body.rstrip()}\n"))


def landmark_text(landmark_set: dict[str, Any] | None) -> str:
    """Return a section about the landmarks, or "" if there are none."""
    if landmark_set is None:
        return ""
    points = ", ".join(f"{number} {name}" for number, name in enumerate(landmark_set["points"]))
    visibility = "`landmark_visibility`: -1 not applicable, 0 missing (x = y = 0), 1 occluded, 2 visible."
    return f"## Landmarks: {landmark_set['name']}\n\n{visibility}\n\n{points}"


def vocabulary_text(column: str, vocabulary: dict[str, Any]) -> str:
    """Return a section about the vocabulary of a column."""
    values = ", ".join(f"{number} {value}" for number, value in enumerate(vocabulary["values"]))
    return f"## Vocabulary of {column}: {vocabulary['name']}\n\n{values}"


def license_text(metadata: Mapping[str, Any]) -> str:
    """Return the last section: license, paper and citation, where the table has them."""
    terms = f"## License and citation\n\n{metadata.get('license') or 'See the source of the images.'}"
    citation = f"```bibtex\n{metadata['citation']}\n```" if metadata.get("citation") else ""
    return "\n\n".join(part for part in (terms, str(metadata.get("paper") or ""), citation) if part)
