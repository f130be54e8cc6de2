"""Quirks planted into a K-Fashion sample, each listed in `defects.json`: those counted in real documents, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from fprep.synthetic.layouts.image_defects import SPOILT_IMAGES
from fprep.synthetic.layouts.tree import Defect, chance, write_defects

_TRAINING, _LABELS, _IMAGES = "K-Fashion 이미지/Training", "라벨링데이터", "원천데이터_1"
Document = dict[str, Any]


def plant_defects(folder: Path, seed: int) -> int:
    """Spoil training documents and images; returns how many quirks were planted."""
    planter = _Planter(folder, seed)
    planter.edit("box_cut_at_border", "X좌표 of a rectangle is -3.5", _move_rectangle, "kept")
    planter.edit("garment_of_no_size", "가로 and 세로 of a rectangle are 0", _empty_rectangle, "kept")
    planter.edit("polygon_with_gaps", "a polygon without its X좌표2", _drop_key, "kept")
    planter.edit("unknown_label", "a color that the vocabulary does not have", _strange_color, "kept")
    planter.edit("alias", "a neckline spelt `원 숄더`, with a space", _alias, "kept")
    planter.edit("unknown_style", "a style that does not exist", _strange_style, "kept")
    planter.edit("style_is_not_the_folder", "another style than that of the folder", _other_style, "kept")
    planter.edit("missing_key", "no 렉트좌표", lambda document: _details(document).pop("렉트좌표"))
    planter.edit("missing_key", "no 데이터셋 정보", lambda document: document.pop("데이터셋 정보"))
    planter.spoil("bad_json", "cut after 200 bytes", lambda content: content[:200])
    planter.spoil("empty_file", "the file is empty", lambda _: b"")
    planter.spoil(
        "bad_encoding", "the document in EUC-KR", lambda content: content.decode().encode("euc-kr", "replace")
    )
    planter.spoil("bom", "EF BB BF before the document", lambda content: b"\xef\xbb\xbf" + content, "kept")
    planter.spoil("bad_json", "a list around the document", lambda content: b"[" + content + b"]")
    planter.spoil_images()
    write_defects(folder, planter.planted, wrapped=True)
    return len(planter.planted)


class _Planter:
    """Takes one untouched document after the other."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.planted: list[Defect] = []
        stems = sorted(
            str(path.relative_to(folder / _TRAINING / _LABELS))[:-5]
            for path in (folder / _TRAINING / _LABELS).rglob("*.json")
        )
        self._stems: Iterator[str] = iter(
            [stems[place] for place in chance(seed, 128).permutation(len(stems)).tolist()]
        )

    def edit(self, rule: str, what: str, change: Callable[[Document], object], verdict: str = "rejected") -> None:
        """Change the values of a document."""

        def edited(content: bytes) -> bytes:
            document = cast("Document", json.loads(content))
            change(document)
            return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

        self.spoil(rule, what, edited, verdict)

    def spoil(self, rule: str, what: str, change: Callable[[bytes], bytes], verdict: str = "rejected") -> None:
        """Change the bytes of a document."""
        stem = next(self._stems)
        path = self.folder / self._document(stem)
        path.write_bytes(change(path.read_bytes()))
        self.planted.append(Defect(self._document(stem), 1, self._image(stem), rule, what, verdict))

    def spoil_images(self) -> None:
        """Files that are damaged, missing, or not what their name says."""
        for rule, (what, change, verdict) in SPOILT_IMAGES.items():
            stem = next(self._stems)
            path = self.folder / self._image(stem)
            path.write_bytes(change(path.read_bytes()))
            self.planted.append(Defect(self._document(stem), 1, self._image(stem), rule, what, verdict))
        stem = next(self._stems)
        (self.folder / self._image(stem)).unlink()
        self.planted.append(Defect(self._document(stem), 1, self._image(stem), "missing_image", "the file was deleted"))

    def _document(self, stem: str) -> str:
        return f"{_TRAINING}/{_LABELS}/{stem}.json"

    def _image(self, stem: str) -> str:
        return f"{_TRAINING}/{_IMAGES}/{stem}.jpg"


def _details(document: Document) -> Document:
    return cast("Document", document["데이터셋 정보"]["데이터셋 상세설명"])


def _first(document: Document, kind: str) -> Document:
    """The first part that is there."""
    return next(cast("Document", part[0]) for part in _details(document)[kind].values() if part[0])


def _move_rectangle(document: Document) -> None:
    _first(document, "렉트좌표")["X좌표"] = -3.5


def _empty_rectangle(document: Document) -> None:
    _first(document, "렉트좌표").update({"가로": 0, "세로": 0})


def _drop_key(document: Document) -> None:
    del _first(document, "폴리곤좌표")["X좌표2"]


def _labels(document: Document) -> Document:
    labels = _details(document)["라벨링"]
    return next(cast("Document", labels[part][0]) for part in ("상의", "원피스", "하의", "아우터") if labels[part][0])


def _strange_color(document: Document) -> None:
    _labels(document)["색상"] = "자주초록"


def _alias(document: Document) -> None:
    _labels(document)["넥라인"] = "원 숄더"


def _strange_style(document: Document) -> None:
    _details(document)["라벨링"]["스타일"] = [{"스타일": "엘레강스"}]


def _other_style(document: Document) -> None:
    style = _details(document)["라벨링"]["스타일"][0].get("스타일", "")
    _details(document)["라벨링"]["스타일"] = [{"스타일": "밀리터리" if style != "밀리터리" else "펑크"}]
