"""Sample of K-Fashion (AI-Hub 7988): `K-Fashion 이미지/{Training,Validation}`, one JSON and one JPEG an image in a folder per style.

Outfits in 23 styles, each photographed a few times; style, labels, rectangles and polygons of up to four parts as in the
released documents: compact UTF-8 without a line end, `[{}]` for what is absent, polygon keys numbered in arbitrary order,
rectangles half a pixel outside the polygon, widths of 800.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.garments.items import Item, pick
from fprep.synthetic.garments.people import draw_person
from fprep.synthetic.garments.shoot import VIEWS, Shot, photograph
from fprep.synthetic.layouts.kfashion_words import PARTS, STYLE_OF_LOOK, STYLE_WEIGHTS, draw_outfit, labels_of, part_of
from fprep.synthetic.layouts.tree import Progress, Request, chance, draw_groups, group_sizes, jpeg_bytes, sample_folder

PUBLISHED_IMAGES = 967_806
ROOT, LABELS, IMAGES = "K-Fashion 이미지", "라벨링데이터", "원천데이터_1"
MIN_IMAGES_FOR_DEFECTS = 60
WIDTH = 800
_DRAWN_WIDTH = 480  # images are drawn smaller and enlarged
_HEIGHTS = (800, 1000, 1066, 1067, 1200)
_VIEW_WEIGHTS = {"shop": 3.0, "any": 2.0, "street": 3.0, "home": 1.0}
_SHOPS = ("Ave29th", "nt2157k07", "IMG", "로즈로코", "(116)IMG", "daily★look", "a, b 코디", "Ⅱ season")

Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class Session:
    """One outfit and how often it is photographed; `first` numbers its images among all."""

    number: int
    first: int
    count: int

    @property
    def split(self) -> str:
        """Every eighth outfit is for validation."""
        return "Validation" if self.number % 8 == 7 else "Training"


def write_sample(
    out: Path, *, images: int, seed: int, workers: int, defects: bool = False, with_images: bool = True,
    progress: Progress | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write a sample of `images` documents and return how many each split has.

    Raises `UsageError` for an occupied folder or too few images.
    """
    request = Request(images, seed, workers, defects, with_images, progress)
    with sample_folder(Path(out), request, MIN_IMAGES_FOR_DEFECTS if defects else 1) as folder:
        sessions: list[Session] = []
        for number, count in enumerate(group_sizes(request, 1, 5)):
            sessions.append(Session(number, sum((sessions[-1].first, sessions[-1].count)) if sessions else 0, count))
        counts = {"Training": 0, "Validation": 0}
        draw = partial(_draw_session, folder, request.with_images, seed)
        sizes = [session.count for session in sessions]
        for session, _ in zip(sessions, draw_groups(request, draw, sessions, sizes, spread=True), strict=True):
            counts[session.split] += session.count
        if defects:
            from fprep.synthetic.layouts.kfashion_defects import plant_defects

            counts["defects"] = plant_defects(folder, seed)
    return counts


def identifier_of(index: int) -> int:
    """Number of an image: unique, not in the order of the images."""
    return 100_000 + index * 611_953 % 1_300_021


def outfit_of(seed: int, number: int) -> tuple[str, list[Item]]:
    """Look and garments of session `number`."""
    generator = chance(seed, 111, number)
    look = pick(generator, STYLE_WEIGHTS)
    return look, draw_outfit(generator, number, look)


def _draw_session(folder: Path, with_images: bool, seed: int, session: Session) -> int:
    """Write documents and images of a session."""
    look, outfit = outfit_of(seed, session.number)
    wearer = draw_person(chance(seed, 112, session.number))
    shop = chance(seed, 113, session.number)
    name = f"{_SHOPS[int(shop.integers(len(_SHOPS)))]}_{int(shop.integers(1, 999))}"
    date = f"2020-{int(shop.integers(8, 13)):02d}-{int(shop.integers(1, 29)):02d}"
    extension = "JPG" if shop.random() < 0.17 else "jpg"
    for index in range(session.count):
        generator = chance(seed, 114, session.number, index)
        height = int(generator.choice(_HEIGHTS))
        scale = WIDTH / _DRAWN_WIDTH
        identifier = identifier_of(session.first + index)
        stem = f"{STYLE_OF_LOOK[look]}/{identifier}"
        shapes: list[tuple[Item, Polygon]] = []
        if with_images:
            shot = photograph(
                outfit, generator, VIEWS[pick(generator, _VIEW_WEIGHTS)], (round(height / scale), _DRAWN_WIDTH), wearer
            )
            shapes = _shapes(shot, (WIDTH, height))
            large = np.asarray(cv2.resize(shot.image, (WIDTH, height), interpolation=cv2.INTER_CUBIC), np.uint8)
            path = folder / ROOT / session.split / IMAGES / f"{stem}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg_bytes(large, 82))
        else:
            shapes = [(item, _invented(generator, item, height)) for item in outfit]
        time = f"{date} {int(generator.integers(8, 20)):02d}:{int(generator.integers(60)):02d}:{int(generator.integers(60)):02d}"
        document = document_of(identifier, f"{name}_{index + 1:02d}.{extension}", time, height, look, shapes, generator)
        path = folder / ROOT / session.split / LABELS / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    return session.count


def document_of(
    identifier: int, file_name: str, time: str, height: int, look: str, shapes: list[tuple[Item, Polygon]],
    generator: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """The document of an image: what the release says of it."""
    style: dict[str, str] = {}
    if generator.random() < 0.97:
        style["스타일"] = "키치/키덜트" if look == "kitsch" and generator.random() < 0.5 else STYLE_OF_LOOK[look]
        if generator.random() < 0.25:
            style["서브스타일"] = STYLE_OF_LOOK[pick(generator, STYLE_WEIGHTS)]
    rectangles: dict[str, Any] = {part: [{}] for part in PARTS}
    polygons: dict[str, Any] = {part: [{}] for part in PARTS}
    labels: dict[str, Any] = {"스타일": [style], **{part: [{}] for part in PARTS}}
    for item, polygon in shapes:
        part = part_of(item)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        wide, tall = (int(value) for value in np.floor(high - low))
        rectangles[part] = [{"X좌표": _six(low[0] - 0.5), "Y좌표": _six(low[1] - 0.5), "가로": wide, "세로": tall}]
        keys = [
            (f"{axis}좌표{place + 1}", _six(point[which]))
            for place, point in enumerate(polygon)
            for which, axis in enumerate("XY")
        ]
        polygons[part] = [dict(keys[int(place)] for place in generator.permutation(len(keys)))]
        found = labels_of(item)
        labels[part] = [{"색상": found["색상"]} if generator.random() < 0.04 else found]
    return {
        "이미지 정보": {
            "이미지 식별자": identifier,
            "이미지 높이": height,
            "이미지 파일명": file_name,
            "이미지 너비": WIDTH,
        },
        "데이터셋 정보": {
            "파일 생성일자": time,
            "데이터셋 상세설명": {"렉트좌표": rectangles, "폴리곤좌표": polygons, "라벨링": labels},
            "파일 번호": identifier,
            "파일 이름": file_name,
        },
    }


def _shapes(shot: Shot, size: tuple[int, int]) -> list[tuple[Item, Polygon]]:
    """Each garment's largest outline in pixels of the enlarged image; one that shows too little has none."""
    scale = np.array(size) / np.array(shot.image.shape[1::-1])
    found: list[tuple[Item, Polygon]] = []
    for piece in shot.pieces:
        outline = outline_of(piece.mask)
        if outline is not None:
            found.append((piece.item, np.clip((outline + 0.5) * scale - 0.5, 0, np.array(size) - 1)))
    return found


def outline_of(mask: NDArray[np.bool_], tolerance: float = 1.2) -> Polygon | None:
    """The largest connected outline (N, 2) of a mask (H, W), simplified to `tolerance` pixels; None for next to nothing."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea, default=None)
    if largest is None or cv2.contourArea(largest) < 60:
        return None
    outline = cv2.approxPolyDP(largest, tolerance, True)[:, 0].astype(np.float64)
    return outline if len(outline) >= 3 else None


_PLACES = {
    "outwear": (0.12, 0.7),
    "blouse": (0.1, 0.5),
    "dress": (0.1, 0.85),
    "skirt": (0.42, 0.8),
    "trousers": (0.42, 0.95),
}


def _invented(generator: np.random.Generator, item: Item, height: int) -> Polygon:
    """A plausible outline in an image that nobody draws."""
    top, bottom = np.array(_PLACES[item.category]) * height
    angle = np.linspace(0, 2 * np.pi, int(generator.integers(8, 30)), endpoint=False)
    center = np.array([generator.uniform(300, 500), (top + bottom) / 2])
    radius = np.array([generator.uniform(90, 200), (bottom - top) / 2])
    return center + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) * generator.uniform(
        0.9, 1.0, (len(angle), 1)
    )


def _six(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
