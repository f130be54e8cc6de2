"""K-Fashion's names (AI-Hub 2020) for what can be seen on a synthetic item, and outfits in its 23 styles."""

from __future__ import annotations

from typing import Any

import numpy as np

from fprep.synthetic.garments.items import Item, item_of
from fprep.synthetic.garments.kinds import KINDS
from fprep.synthetic.garments.palette import LOOKS

PARTS = ("아우터", "하의", "원피스", "상의")
PART_OF_CATEGORY = {"outwear": "아우터", "trousers": "하의", "skirt": "하의", "dress": "원피스", "blouse": "상의"}
STYLE_OF_LOOK = {
    "classic": "클래식", "preppy": "프레피", "mannish": "매니시", "tomboy": "톰보이", "feminine": "페미닌", "romantic": "로맨틱",
    "sexy": "섹시", "hippie": "히피", "western": "웨스턴", "oriental": "오리엔탈", "modern": "모던",
    "sophisticated": "소피스트케이티드", "avant-garde": "아방가르드", "country": "컨트리", "resort": "리조트",
    "genderless": "젠더리스", "sporty": "스포티", "retro": "레트로", "kitsch": "키치", "hip-hop": "힙합", "punk": "펑크",
    "military": "밀리터리", "street": "스트리트",
}  # fmt: skip
STYLE_WEIGHTS = {
    **dict.fromkeys(STYLE_OF_LOOK, 1.0), "street": 5.0, "resort": 2.0, "feminine": 2.0, "romantic": 2.0, "modern": 2.0,
    "hip-hop": 0.5, "punk": 0.5,
}  # fmt: skip
"""The order of the real frequencies, less steep."""

_CATEGORIES = {
    "tee": "티셔츠", "tank": "탑", "cami": "탑", "crop top": "탑", "blouse": "블라우스", "shirt": "셔츠", "polo": "셔츠",
    "sweater": "니트웨어", "turtleneck": "니트웨어", "hoodie": "후드티", "cardigan": "가디건", "vest": "베스트", "blazer": "재킷",
    "jacket": "재킷", "parka": "점퍼", "coat": "코트", "peacoat": "코트", "trench": "코트", "jeans": "청바지",
    "skinny jeans": "청바지", "denim shorts": "청바지", "leggings": "래깅스", "joggers": "조거팬츠",
}  # fmt: skip
_COLORS = {
    "black": "블랙", "white": "화이트", "grey": "그레이", "navy": "네이비", "beige": "베이지", "brown": "브라운", "red": "레드",
    "wine": "와인", "pink": "핑크", "orange": "오렌지", "yellow": "옐로우", "green": "그린", "mint": "민트", "khaki": "카키",
    "blue": "블루", "sky blue": "스카이블루", "lavender": "라벤더", "purple": "퍼플",
}  # fmt: skip
_SLEEVES = {"none": "민소매", "cap": "캡", "short": "반팔", "elbow": "7부소매", "three-quarter": "7부소매"}
_NECKS = {
    "round": "라운드넥", "v": "브이넥", "square": "스퀘어넥", "boat": "보트넥", "straps": "유넥", "sweetheart": "스위트하트",
    "hood": "후드", "turtleneck": "터틀넥",
}  # fmt: skip
_COLLARS = {"shirt": "셔츠칼라", "lapel": "테일러드칼라", "stand": "차이나칼라"}
_FABRICS = {"denim": "데님", "knit": "니트", "linen": "린넨", "fleece": "플리스", "leather": "가죽", "smooth": "우븐"}
_PRINTS = {
    "plain": "무지", "gingham": "깅엄", "tartan": "체크", "dots": "도트", "floral": "플로럴", "houndstooth": "하운즈\u00a0투스",
    "blobs": "타이다이",
}  # fmt: skip
_DETAILS = {"buttons": "단추", "double": "더블브레스티드", "zip": "지퍼"}


def draw_outfit(generator: np.random.Generator, number: int, look: str) -> list[Item]:
    """Garments of one look that go together, from the skin outwards: a dress, or a lower and an upper piece; perhaps a coat."""
    kinds = LOOKS[look].kinds

    def some(*categories: str) -> list[str]:
        return [kind for kind in kinds if KINDS[kind].category in categories]

    def one(options: list[str]) -> Item:
        return item_of(generator, number, options[int(generator.integers(len(options)))], look)

    dresses, outer = some("dress"), some("outwear")
    if dresses and generator.random() < 0.45:
        outfit = [one(dresses)]
    else:
        outfit = [one(some("trousers", "skirt") or ["jeans"]), one(some("blouse") or ["tee", "shirt"])]
    return [*outfit, one(outer)] if outer and generator.random() < 0.4 else outfit


def part_of(item: Item) -> str:
    """아우터, 하의, 원피스 or 상의."""
    return PART_OF_CATEGORY[item.category]


def labels_of(item: Item) -> dict[str, Any]:
    """The labels of a part, in the order of the released files."""
    two = item.print != "plain" or item.design.motif != "none"
    labels: dict[str, Any] = {"기장": length_of(item), "색상": _COLORS[item.color]}
    labels |= {"서브색상": _COLORS[item.accent]} if two else {}
    labels |= {"카테고리": category_of(item)}
    details = _details(item)
    labels |= {"디테일": details} if details else {}
    if item.neck:
        labels |= {"옷깃": "폴로칼라" if item.kind == "polo" else _COLLARS[item.neck]} if item.neck in _COLLARS else {}
        labels |= {"소매기장": _SLEEVES.get(item.sleeve, "긴팔")}
    wool = item.category == "outwear" and item.fabric == "fleece"
    labels |= {"소재": ["울/캐시미어" if wool else _FABRICS[item.fabric]], "프린트": [_print(item)]}
    if item.neck in _NECKS:
        labels |= {"넥라인": _NECKS[item.neck]}
    return labels | {"핏": _fit(item)}


def category_of(item: Item) -> str:
    """One of the 21 categories."""
    other = {"skirt": "스커트", "trousers": "팬츠", "dress": "드레스"}.get(item.category, "")
    return _CATEGORIES.get(item.kind, other)


def length_of(item: Item) -> str:
    """기장, whose values depend on the part; `노말` is the spelling of outerwear, `노멀` that of tops."""
    if item.category == "blouse":
        return "크롭" if item.end < 50 else "노멀" if item.end < 67 else "롱"
    if item.category == "outwear":
        steps = ((52, "크롭"), (68, "노말"), (88, "하프"), (118, "롱"))
        return next((name for end, name in steps if item.end < end), "맥시")
    steps = ((98, "미니"), (116, "니렝스"), (132, "미디"), (148, "발목"))
    return next((name for end, name in steps if item.end < end), "맥시")


def _print(item: Item) -> str:
    if item.design.motif != "none":
        return "그래픽"
    if item.print == "blobs" and item.color in ("khaki", "green"):
        return "카무플라쥬"
    return "스트라이프" if item.print.startswith("stripes") else _PRINTS[item.print]


def _fit(item: Item) -> str:
    if item.category == "trousers" and item.design.hem < 6:
        return "스키니"
    if item.category == "trousers" and item.design.hem > 14:
        return "와이드"
    if item.category in ("blouse", "outwear") and item.design.ease > 5.5:
        return "오버사이즈"
    return {"tight": "타이트", "loose": "루즈", "regular": "노멀"}[item.fit]


def _details(item: Item) -> list[str]:
    design = item.design
    found = [_DETAILS[design.closure]] if design.closure in _DETAILS else []
    found += ["포켓"] if design.pockets != "none" else []
    found += ["띠"] if design.belt else []
    found += ["플리츠"] if design.pleats > 5 else []
    found += ["퍼프"] if design.sleeve_shape == "puff" and design.sleeve else []
    return found + (["플레어"] if item.category in ("dress", "skirt") and design.hem > 34 else [])
