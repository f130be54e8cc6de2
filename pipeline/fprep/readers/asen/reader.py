"""Reader for the text layout of ASEN.

Files: `filenames_<split>.txt`, `label_train.txt`, `query_` and `candidate_{valid,test}.txt`, meta.json. K-Fashion has
one attribute in this layout, the style (3 classes); FashionAI, DARN and DeepFashion have several. A row is a line of
`filenames_…`; label lines `index attribute value …` are joined to it. Query and candidate images of valid become
val_query and val_gallery, those of test query and gallery. If an image is labeled for an attribute, the other values of
the attribute are absent, as in ASEN's comparison; unlabeled attributes are unknown.
"""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from fprep.raw.dialect import HEAD, find_dialect, read_table
from fprep.raw.file import is_file
from fprep.raw.folder import RawFile, RawFolder, RawLine, path_in
from fprep.readers.asen.layout import SPLITS, Layout, find_layout, image_home, parse_label, spelling_on_disk
from fprep.readers.fashionai import attributes as fashionai_attributes
from fprep.readers.reader import frame_of, reader, safe_key, source_columns
from fprep.readers.signature import Signature
from fschemas.failures import UsageError
from fschemas.splits import QUERY_AND_GALLERY
from fschemas.tables import SampleTable, table_class

# (split of the files, role of the label file) -> split of the table. An image with several roles takes the first match.
_SPLIT_OF = {
    **dict(zip((("valid", "query"), ("valid", "candidate")), QUERY_AND_GALLERY["val"], strict=True)), ("valid", "label"): "val",
    **dict(zip((("test", "query"), ("test", "candidate")), QUERY_AND_GALLERY["test"], strict=True)), ("test", "label"): "test",
    ("train", "label"): "train", ("train", "query"): "train", ("train", "candidate"): "train",
}  # fmt: skip
_ORDER = ("query", "candidate", "label")
_SPLITS = r"(train|valid|test)\w*\.txt"


@dataclass
class _Image:
    """A line of a filenames list: (attribute, value) pairs with their label lines, and the roles of its files."""

    line: RawLine
    good: bool
    labels: dict[tuple[int, int], RawLine] = field(default_factory=dict[tuple[int, int], RawLine])
    roles: set[str] = field(default_factory=set[str])


@reader(
    name="kfashion-asen",
    table=SampleTable,
    signatures=(
        Signature(rf"filenames_{_SPLITS}", rb"^.+/.+\.(jpe?g|png)\s*$", "names", rows=True),
        *(Signature(f"{kind}_{_SPLITS}", rb"\A\d+ \d+ \d+", gives)
          for kind, gives in (("label", "labels"), ("query", "queries"), ("candidate", "candidates"))),
        Signature(r"meta.*\.json", rb'"ATTRIBUTES|"fname_list"|"attributes"\s*:', "names of the attributes", crlf=True),
    ),
    variants={"lists": ("**/filenames_*.txt",)},
    totals={
        "kfashion-train": 159732, "kfashion-valid": 93217, "fashionai-train": 144000, "fashionai-valid": 18000,
        "fashionai-test": 18000,
    },
    any_groups=True,
    paper="Ma et al., Fine-Grained Fashion Similarity Learning by Attribute-Specific Embedding Network, AAAI 2020",
    license="lists without a license; the images are those of AI-Hub K-Fashion (AI-Hub terms), FashionAI, DARN or DeepFashion",
    citation="@inproceedings{ma2020asen, title={Fine-Grained Fashion Similarity Learning by Attribute-Specific Embedding "
    "Network}, author={Ma, Zhe and Dong, Jianfeng and Long, Zhongzi and Zhang, Yao and He, Yuan and Xue, Hui and Ji, "
    "Shouling}, booktitle={AAAI}, year={2020}}",
)  # fmt: skip
def kfashion_asen(raw: RawFolder) -> pl.LazyFrame:
    """Read train, valid and test of one data set; column group style if that is its attribute, else attributes."""
    layout = find_layout(raw)
    group = "style" if layout.is_style else "attributes"
    raw.vocabularies[group], table = layout.vocabulary(), table_class(group)
    frames: list[pl.DataFrame] = []
    for split in SPLITS:
        path, labels = layout.folder / f"filenames_{split}.txt", layout.files(split)
        if not is_file(path):
            if labels:
                first = raw.name_of(next(iter(labels.values())))
                raise UsageError(f"{first}: {path.name} is missing; restore it next to this file")
            continue
        images = {line.number - 1: _Image(line, raw.has_path(line)) for line in raw.open_file(path).lines()}
        for role, label_path in labels.items():
            _join(raw, raw.open_file(label_path), role, layout, images)
        if layout.name == "fashionai":
            _check_annotations(raw, layout, split, images)
        if not labels:
            raw.notes.append(f"{raw.name_of(path)}: names without label files; its rows go into the split unlabeled")
        raw.totals[f"{layout.name}-{split}"] += len(images)
        frames.append(_frame(raw, layout, split, [image for image in images.values() if image.good], table))
    if not frames:
        raise UsageError(f"{raw.name_of(layout.folder)}: no filenames_{'|'.join(SPLITS)}.txt can be read; restore them")
    return pl.concat(frames).lazy()


def _join(raw: RawFolder, file: RawFile, role: str, layout: Layout, images: dict[int, _Image]) -> None:
    """Attach labels to the images. A label line without image is rejected; an invalid value rejects its image."""
    for line in file.lines():
        parsed = parse_label(line.content)
        if parsed is None:
            message = f"{line.content[:60]!r} is not an image index followed by pairs of attribute and value"
            raw.reject(line, "bad_label", message, found=repr(line.content[:60]))
            continue
        index, pairs = parsed
        image = images.get(index)
        if image is None:
            raw.reject(line, "unknown_image", f"there is no image {index}; indices count from 0", found=str(index))
            continue
        file.accounts["joined"] += 1
        if not image.good:
            continue
        if role in image.roles or (role != "label" and image.roles & {"query", "candidate"}):
            raw.warn("several_label_lines", line)
        image.roles.add(role)
        for pair in pairs:
            problem = _label_problem(layout, image, pair)
            if problem is not None:
                image.good = False
                raw.reject(image.line, *problem, location=line, column="attributes", found=f"{pair[0]} {pair[1]}")
                break
            image.labels.setdefault(pair, line)


def _label_problem(layout: Layout, image: _Image, pair: tuple[int, int]) -> tuple[str, str] | None:
    attribute, value = pair
    if attribute >= len(layout.attributes):
        return "unknown_attribute", f"attribute {attribute}, expected 0 to {len(layout.attributes) - 1}"
    name, count = layout.attributes[attribute]
    if value >= count:
        return "unknown_attribute", f"value {value} of {name}, expected 0 to {count - 1}"
    if layout.is_style or layout.name == "fashionai":
        other = next((known for known in image.labels if known[0] == attribute and known != pair), None)
        if other is not None:
            return "label_conflict", f"{name} is {value}, but {other[1]} at {image.labels[other]}"
    return None


def _check_annotations(raw: RawFolder, layout: Layout, split: str, images: dict[int, _Image]) -> None:
    """Compare with FashionAI's `<split>/Annotations/label.csv`, the source of the lists."""
    homes = [layout.folder, *raw.folders_in(layout.folder)]
    path = next((csv for home in homes if is_file(csv := home / split / "Annotations" / "label.csv")), None)
    if path is None:
        return
    by_name = {path_in(image.line): image for image in images.values() if image.good}
    file = raw.open_file(path)
    for record in read_table(file, find_dialect(file.head(HEAD), widths=fashionai_attributes.WIDTHS)):
        file.accounts["joined"] += 1
        name, table, word = (*(cell.strip() for cell in record.fields), "", "", "")[:3]
        image = by_name.get(f"{split}/{name}")
        attribute = table.removesuffix("_labels")
        is_known = attribute in (name for name, _ in layout.attributes)
        label = fashionai_attributes.parse_label(attribute, word) if is_known else ""
        listed = {layout.id_of(*pair) for pair in image.labels} if image else set[int]()
        if isinstance(label, str) or label.positive not in listed:
            raw.warn("label_csv_differs", record.line)


def _frame(raw: RawFolder, layout: Layout, split: str, images: list[_Image], table: type[SampleTable]) -> pl.DataFrame:
    names = [path_in(image.line) for image in images]
    prefix = image_home(raw, layout, names)
    splits: list[str] = []
    for image in images:
        role = next((role for role in _ORDER if role in image.roles), None)
        if role is None:
            raw.warn("no_label", image.line)
        splits.append(_SPLIT_OF[split, role] if role else "unlabeled")
    columns: dict[str, Any] = {
        "key": [_key(name) for name in names],
        "image": [prefix + name for name in spelling_on_disk(raw.root, prefix, names)],
        "split": splits,
        **source_columns(image.line for image in images),
    }
    positive = [sorted(layout.id_of(*pair) for pair in image.labels) for image in images]
    if layout.is_style:
        words = layout.vocabulary()
        columns |= {"style": [words.values[ids[0]] if ids else "" for ids in positive], "substyle": [""] * len(names)}
    else:
        named = [tuple(sorted({attribute for attribute, _ in image.labels})) for image in images]
        columns |= {"attributes_positive": positive, "attributes_unknown": _unknown(layout, named)}
    return frame_of(table, columns)


def _unknown(layout: Layout, named: list[tuple[int, ...]]) -> pl.Series:
    """Return the ids of the unlabeled attributes of each image, computed once per combination."""
    combinations = {attributes: index for index, attributes in enumerate(dict.fromkeys(named))}
    lists = [
        [layout.id_of(other, value) for other, (_, count) in enumerate(layout.attributes) if other not in attributes
         for value in range(count)]
        for attributes in combinations
    ]  # fmt: skip
    return pl.Series(lists, dtype=pl.List(pl.Int16)).gather([combinations[attributes] for attributes in named])


def _key(name: str) -> str:
    """Return the last folder and the name, or the name alone if the folder is not ASCII."""
    folder, _, last = name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return safe_key(f"{folder.rpartition('/')[2]}-{stem}" if folder and name.isascii() else stem)
