"""Sample of K-Fashion (AI-Hub 7988): `K-Fashion 이미지/{Training,Validation}` with a folder per style.

Each image has a JSON and a JPEG file. Outfits in 23 styles are photographed a few times each. Documents have style,
labels, rectangles and polygons of up to four parts as in the release: compact UTF-8 without a trailing newline, `[{}]`
for absent parts, polygon keys numbered in arbitrary order, rectangles half a pixel outside the polygon, width 800.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fprep.synthetic.defects import DocumentDefect, Flaw, edited, spoil_documents
from fprep.synthetic.files import read_words, write_image
from fprep.synthetic.garments.items import Item, draw_outfit, pick
from fprep.synthetic.garments.people import draw_person
from fprep.synthetic.garments.shoot import VIEWS, Shot, photograph
from fprep.synthetic.skeleton import Defect, Group, Layout, Request, chance, draw_groups, map_groups, shuffled

ROOT, LABELS, IMAGES = "K-Fashion 이미지", "라벨링데이터", "원천데이터_1"
WIDTH = 800
_RENDERED_WIDTH = 480  # images are rendered smaller and upscaled
_HEIGHTS = (800, 1000, 1066, 1067, 1200)
_TOLERANCE = 1.2  # of outlines, in pixels
_VIEWS = {"shop": 3.0, "any": 2.0, "street": 3.0, "home": 1.0}
_SHOPS = ("Ave29th", "nt2157k07", "IMG", "로즈로코", "(116)IMG", "daily★look", "a, b 코디", "Ⅱ season")
WORDS = read_words(__file__)
PARTS = ("아우터", "하의", "원피스", "상의")
STYLE_OF_LOOK: dict[str, str] = WORDS["style"]

Document = dict[str, Any]
Polygon = NDArray[np.float64]


def _write(folder: Path, request: Request) -> dict[str, int]:
    shoots = draw_groups(request, 1, 5)
    counts = {"Training": 0, "Validation": 0}
    for shoot, _ in zip(shoots, map_groups(folder, request, _render_shoot, shoots, spread=True), strict=True):
        counts[_split(shoot)] += shoot.count
    return counts


def _split(shoot: Group) -> str:
    """Return the split of an outfit: every eighth is for validation."""
    return "Validation" if shoot.number % 8 == 7 else "Training"


def identifier_of(index: int) -> int:
    """Return the id of an image: unique, in an order unrelated to the images."""
    return 100_000 + index * 611_953 % 1_300_021


def outfit_of(seed: int, number: int) -> tuple[str, list[Item]]:
    """Return look and garments of shoot `number`."""
    generator = chance(seed, 111, number)
    look = pick(generator, WORDS["weight"])
    return look, draw_outfit(generator, number, look)


def _render_shoot(folder: Path, request: Request, shoot: Group) -> None:
    seed, base = request.seed, folder / ROOT / _split(shoot)
    look, outfit = outfit_of(seed, shoot.number)
    wearer = draw_person(chance(seed, 112, shoot.number))
    shop = chance(seed, 113, shoot.number)
    name = f"{_SHOPS[int(shop.integers(len(_SHOPS)))]}_{int(shop.integers(1, 999))}"
    date = f"2020-{int(shop.integers(8, 13)):02d}-{int(shop.integers(1, 29)):02d}"
    extension = "JPG" if shop.random() < 0.17 else "jpg"
    for index in range(shoot.count):
        generator = chance(seed, 114, shoot.number, index)
        height = int(generator.choice(_HEIGHTS))
        identifier = identifier_of(shoot.first + index)
        stem = f"{STYLE_OF_LOOK[look]}/{identifier}"
        shapes: list[tuple[Item, Polygon]] = []
        if request.with_images:
            size = round(height * _RENDERED_WIDTH / WIDTH), _RENDERED_WIDTH
            shot = photograph(outfit, generator, VIEWS[pick(generator, _VIEWS)], size, wearer)
            shapes = _shapes(shot, (WIDTH, height))
            large = np.asarray(cv2.resize(shot.image, (WIDTH, height), interpolation=cv2.INTER_CUBIC), np.uint8)
            write_image(base / IMAGES / f"{stem}.jpg", large, 82)
        else:
            shapes = [(item, _invented(generator, item, height)) for item in outfit]
        hour, minute, second = (int(generator.integers(low, high)) for low, high in ((8, 20), (0, 60), (0, 60)))
        time = f"{date} {hour:02d}:{minute:02d}:{second:02d}"
        document = document_of(identifier, f"{name}_{index + 1:02d}.{extension}", time, height, look, shapes, generator)
        path = base / LABELS / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def document_of(
    identifier: int,
    file_name: str,
    time: str,
    height: int,
    look: str,
    shapes: list[tuple[Item, Polygon]],
    generator: np.random.Generator,
) -> Document:
    """Return the annotation document of an image, as in the release."""
    style: dict[str, str] = {}
    if generator.random() < 0.97:
        style["스타일"] = "키치/키덜트" if look == "kitsch" and generator.random() < 0.5 else STYLE_OF_LOOK[look]
        if generator.random() < 0.25:
            style["서브스타일"] = STYLE_OF_LOOK[pick(generator, WORDS["weight"])]
    rectangles: dict[str, Any] = {part: [{}] for part in PARTS}
    polygons: dict[str, Any] = {part: [{}] for part in PARTS}
    labels: dict[str, Any] = {"스타일": [style], **{part: [{}] for part in PARTS}}
    for item, polygon in shapes:
        part = part_of(item)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        wide, tall = (int(value) for value in np.floor(high - low))
        rectangles[part] = [{"X좌표": _six(low[0] - 0.5), "Y좌표": _six(low[1] - 0.5), "가로": wide, "세로": tall}]
        keys = [
            (f"{axis}좌표{number}", _six(value))
            for number, point in enumerate(polygon, 1)
            for axis, value in zip("XY", point, strict=True)
        ]
        polygons[part] = [dict(shuffled(keys, generator))]
        found = labels_of(item)
        labels[part] = [{"색상": found["색상"]} if generator.random() < 0.04 else found]
    image = {"이미지 식별자": identifier, "이미지 높이": height, "이미지 파일명": file_name, "이미지 너비": WIDTH}
    details = {"렉트좌표": rectangles, "폴리곤좌표": polygons, "라벨링": labels}
    dataset = {"파일 생성일자": time, "데이터셋 상세설명": details, "파일 번호": identifier, "파일 이름": file_name}
    return {"이미지 정보": image, "데이터셋 정보": dataset}


def _shapes(shot: Shot, size: tuple[int, int]) -> list[tuple[Item, Polygon]]:
    """Return each garment's largest outline (N, 2) in pixels of the upscaled image, unless it is barely visible."""
    scale = np.array(size) / np.array(shot.image.shape[1::-1])
    found: list[tuple[Item, Polygon]] = []
    for piece in shot.pieces:
        contours, _ = cv2.findContours(piece.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        largest = max(contours, key=cv2.contourArea)
        outline = cv2.approxPolyDP(largest, _TOLERANCE, True)[:, 0].astype(np.float64)
        if cv2.contourArea(largest) >= 60 and len(outline) >= 3:
            found.append((piece.item, np.clip((outline + 0.5) * scale - 0.5, 0, np.array(size) - 1)))
    return found


_EXTENT = {  # start and end of a garment as shares of the image height
    "outwear": (0.12, 0.7), "blouse": (0.1, 0.5), "dress": (0.1, 0.85), "skirt": (0.42, 0.8), "trousers": (0.42, 0.95),
}  # fmt: skip


def _invented(generator: np.random.Generator, item: Item, height: int) -> Polygon:
    """Return a plausible outline for an image that is not rendered."""
    top, bottom = np.array(_EXTENT[item.category]) * height
    angle = np.linspace(0, 2 * np.pi, int(generator.integers(8, 30)), endpoint=False)
    center = np.array([generator.uniform(300, 500), (top + bottom) / 2])
    radius = np.array([generator.uniform(90, 200), (bottom - top) / 2])
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return center + radius * circle * generator.uniform(0.9, 1.0, (len(angle), 1))


def _six(value: float) -> float:
    """Round to six significant digits."""
    return float(f"{value:.6g}")


def part_of(item: Item) -> str:
    """Return 아우터, 하의, 원피스 or 상의."""
    return WORDS["part"][item.category]


def labels_of(item: Item) -> dict[str, Any]:
    """Return the labels of a part, in the order of the released files."""
    labels: dict[str, Any] = {"기장": length_of(item), "색상": WORDS["color"][item.color]}
    if item.pattern != "plain":
        labels["서브색상"] = WORDS["color"][item.accent]
    other = {"skirt": "스커트", "trousers": "팬츠", "dress": "드레스"}.get(item.category, "")
    labels["카테고리"] = WORDS["category"].get(item.kind, other)
    details = [word for _, word in item.words(WORDS["words"])]
    labels |= {"디테일": details} if details else {}
    if item.neck in WORDS["collar"]:
        labels["옷깃"] = WORDS["collar"][item.neck]
    if item.neck:
        labels["소매기장"] = WORDS["sleeve"].get(item.sleeve, "긴팔")
    wool = item.category == "outwear" and item.fabric == "fleece"
    labels["소재"] = ["울/캐시미어" if wool else WORDS["fabric"][item.fabric]]
    camouflage = item.print == "blobs" and item.color in ("khaki", "green")
    labels["프린트"] = ["카무플라쥬" if camouflage else WORDS["print"][item.pattern]]
    if item.neck in WORDS["neck"]:
        labels["넥라인"] = WORDS["neck"][item.neck]
    fit = WORDS["fit"][item.fit]
    if item.category == "trousers":
        fit = {"skinny": "스키니", "wide": "와이드"}.get(item.cut, fit)
    elif item.category in ("blouse", "outwear") and item.design.ease > 5.5:
        fit = "오버사이즈"
    return {**labels, "핏": fit}


def length_of(item: Item) -> str:
    """Return 기장 (length), whose values depend on the part. `노말` is the spelling of outerwear, `노멀` that of tops."""
    if item.category == "blouse":
        return "크롭" if item.end < 50 else "노멀" if item.end < 67 else "롱"
    if item.category == "outwear":
        steps = ((52, "크롭"), (68, "노말"), (88, "하프"), (118, "롱"))
        return next((name for end, name in steps if item.end < end), "맥시")
    steps = ((98, "미니"), (116, "니렝스"), (132, "미디"), (148, "발목"))
    return next((name for end, name in steps if item.end < end), "맥시")


def _details(document: Document) -> Document:
    return document["데이터셋 정보"]["데이터셋 상세설명"]


def _first(document: Document, kind: str) -> Document:
    """Return the first part that is present."""
    return next(part[0] for part in _details(document)[kind].values() if part[0])


def _labels(document: Document) -> Document:
    labels = _details(document)["라벨링"]
    return next(labels[part][0] for part in ("상의", "원피스", "하의", "아우터") if labels[part][0])


def _set_other_style(document: Document) -> None:
    labels = _details(document)["라벨링"]
    style = labels["스타일"][0].get("스타일", "")
    labels["스타일"] = [{"스타일": "밀리터리" if style != "밀리터리" else "펑크"}]


# Quirks found in real documents, and damaged files.
_DEFECTS: tuple[DocumentDefect, ...] = (
    (
        Flaw("box_cut_at_border", "X좌표 of a rectangle is -3.5", "kept"),
        edited(lambda document: _first(document, "렉트좌표").update({"X좌표": -3.5})),
    ),
    (
        Flaw("garment_of_no_size", "가로 and 세로 of a rectangle are 0", "kept"),
        edited(lambda document: _first(document, "렉트좌표").update({"가로": 0, "세로": 0})),
    ),
    (
        Flaw("polygon_with_gaps", "a polygon without its X좌표2", "kept"),
        edited(lambda document: _first(document, "폴리곤좌표").pop("X좌표2")),
    ),
    (
        Flaw("unknown_label", "a color that the vocabulary does not have", "kept"),
        edited(lambda document: _labels(document).update({"색상": "자주초록"})),
    ),
    (
        Flaw("alias", "a neckline spelled `원 숄더`, with a space", "kept"),
        edited(lambda document: _labels(document).update({"넥라인": "원 숄더"})),
    ),
    (
        Flaw("unknown_style", "a style that does not exist", "kept"),
        edited(lambda document: _details(document)["라벨링"].update({"스타일": [{"스타일": "엘레강스"}]})),
    ),
    (Flaw("style_is_not_the_folder", "another style than that of the folder", "kept"), edited(_set_other_style)),
    (Flaw("missing_key", "no 렉트좌표"), edited(lambda document: _details(document).pop("렉트좌표"))),
    (Flaw("missing_key", "no 데이터셋 정보"), edited(lambda document: document.pop("데이터셋 정보"))),
    (Flaw("bad_json", "cut after 200 bytes"), lambda content: content[:200]),
    (Flaw("empty_file", "the file is empty"), lambda _: b""),
    (Flaw("bad_encoding", "the document in EUC-KR"), lambda content: content.decode().encode("euc-kr", "replace")),
    (Flaw("bom", "EF BB BF before the document", "kept"), lambda content: b"\xef\xbb\xbf" + content),
    (Flaw("bad_json", "a list around the document"), lambda content: b"[" + content + b"]"),
)


def _insert_defects(folder: Path, request: Request, _counts: dict[str, int]) -> list[Defect]:
    """Insert defects into training documents and images."""
    places = f"{ROOT}/Training/{LABELS}", f"{ROOT}/Training/{IMAGES}"
    return spoil_documents(folder, chance(request.seed, 128), places, _DEFECTS)


LAYOUT = Layout(
    published=967_806, write=_write, insert_defects=_insert_defects, least_for_defects=60, wrap_defects=True
)
