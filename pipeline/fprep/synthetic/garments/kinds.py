"""Kinds of garments, each with the ranges of its measures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fprep.synthetic.garments.design import CROTCH, WAIST
from fprep.synthetic.garments.shapes import Rng
from fprep.synthetic.garments.wardrobe import BARE_NECKS, SHIRT_COLLAR, neck_fields, within

_Fields = dict[str, Any]  # fields of Design
SLEEVES = {
    "none": 0.0, "cap": 0.19, "short": 0.32, "elbow": 0.5, "three-quarter": 0.7, "wrist": 0.88, "long": 1.0, "extra long": 1.12,
}  # fmt: skip
_NECKS = {  # ranges of width and depth
    "round": (6.8, 9.0, 5, 10), "v": (6.5, 8.5, 13, 20), "square": (8.5, 11.5, 9, 14), "boat": (11, 14, 1.5, 4.0),
    "straps": (8.5, 10.5, 11, 16), "sweetheart": (13.5, 13.5, 10.5, 13.5),
}  # fmt: skip
_LEG = 74.0  # cm from the crotch to the end of full-length trousers


@dataclass(frozen=True)
class Kind:
    """A kind of garment: FashionAI `category`, a sampler `draw` of `Design` fields, and `gender` (W, M or both)."""

    category: str
    draw: Callable[[Rng], _Fields]
    gender: str = "WM"
    colors: tuple[str, ...] = ()  # override those of the look
    plain: bool = False


def one_of(generator: Rng, *options: str) -> str:
    """Sample one of equally likely names."""
    return options[int(generator.integers(len(options)))]


def _chosen(generator: Rng, fixed: _Fields) -> _Fields:
    """Return the fields, with one option chosen from each list."""
    return {name: one_of(generator, *value) if isinstance(value, list) else value for name, value in fixed.items()}


def _neck(generator: Rng, *options: str) -> _Fields:
    kind = one_of(generator, *options)
    return neck_fields(generator, kind, _NECKS[kind])


def _sleeve(generator: Rng, *options: str) -> _Fields:
    cover = SLEEVES[one_of(generator, *options)]
    return {"sleeve": cover + (within(generator, -0.02, 0.02) if cover else 0.0)}


def _top(
    length: tuple[float, float],
    ease: tuple[float, float],
    sleeves: tuple[str, ...],
    necks: tuple[str, ...],
    shapes: tuple[str, ...] = ("straight",),
    flare: tuple[float, float] = (-1.0, 2.0),
    **fixed: Any,
) -> Callable[[Rng], _Fields]:
    """Return a sampler of blouses or outerwear. The half-width of the hem is that of the body plus ease plus flare."""
    outwear = bool(fixed.pop("outwear", False))

    def draw(generator: Rng) -> _Fields:
        room = within(generator, *ease)
        fields: _Fields = {"ease": room, "length": within(generator, *length)}
        fields |= {"hem": (19.0 if outwear else 17.5) + room + within(generator, *flare)}
        fields |= {
            **_sleeve(generator, *sleeves),
            "sleeve_shape": one_of(generator, *shapes),
            **_neck(generator, *necks),
        }
        if fields["neckline"] in BARE_NECKS:
            fields["sleeve"] = 0.0
        return fields | _chosen(generator, fixed)

    return draw


def _dress(length: tuple[float, float]) -> Callable[[Rng], _Fields]:
    def draw(generator: Rng) -> _Fields:
        waisted, narrow = bool(generator.random() < 0.75), bool(generator.random() < 0.3)
        ease = within(generator, 0, 2) if waisted else within(generator, 2, 6)
        fields: _Fields = {"ease": ease, "length": within(generator, *length)}
        fields |= {"weave": one_of(generator, "smooth", "linen")}
        fields |= _sleeve(generator, "none", "short", "short", "elbow", "three-quarter", "long", "long")
        fields |= {"sleeve_shape": one_of(generator, "straight", "straight", "puff", "bell")}
        fields |= _neck(generator, "round", "round", "v", "v", "square", "boat", "straps", "sweetheart")
        hem = within(generator, 17, 23) if narrow else within(generator, 26, 46)
        fields |= {"hem": hem if waisted else 19 + ease + within(generator, 0, 9)}
        fields |= {"waist": WAIST + within(generator, -4, 3) if waisted else None}
        fields |= {"belt": waisted and bool(generator.random() < 0.35)}
        fields |= {"pleats": 18 if waisted and not narrow and generator.random() < 0.25 else 0}
        fields |= {"tiers": int(generator.choice([0, 0, 0, 0, 3]))}
        if fields["neckline"] in BARE_NECKS:
            return fields | {"sleeve": 0.0}
        return fields | (SHIRT_COLLAR if generator.random() < 0.15 else {})

    return draw


def _skirt(length: tuple[float, float], hem: tuple[float, float], **fixed: Any) -> Callable[[Rng], _Fields]:
    def draw(generator: Rng) -> _Fields:
        fields: _Fields = {"ease": within(generator, 0, 1.5), "length": within(generator, *length)}
        fields |= {"hem": within(generator, *hem), "waist": WAIST + within(generator, -2, 5)}
        fields |= {"belt": bool(generator.random() < 0.25), "weave": one_of(generator, "smooth", "linen", "fleece")}
        return fields | {"pockets": one_of(generator, "none", "slant"), **fixed}

    return draw


def _trousers(
    share: tuple[float, float], hem: tuple[float, float], ease: tuple[float, float], **fixed: Any
) -> Callable[[Rng], _Fields]:
    """Return a sampler of trousers. `share` is the range of the covered share of the leg."""

    def draw(generator: Rng) -> _Fields:
        waist = WAIST + within(generator, -2, 7)
        fields: _Fields = {"ease": within(generator, *ease), "waist": waist, "hem": within(generator, *hem)}
        fields |= {"length": CROTCH - waist + _LEG * within(generator, *share), "belt": bool(generator.random() < 0.3)}
        return fields | {"closure": "zip", "pockets": "slant", "weave": "smooth", **_chosen(generator, fixed)}

    return draw


_LONG = ("long", "long", "wrist", "extra long")
_COAT: _Fields = {"outwear": True, "collar": "lapel"}
_HIGH: _Fields = {"outwear": True, "neck_depth": 4.5}
KINDS: dict[str, Kind] = {
    "tee": Kind("blouse", _top((58, 68), (1.5, 6), ("short", "short", "short", "cap", "elbow"), ("round", "round", "v"),
                               motif=["none", "none", "disc", "star", "bars"])),
    "tank": Kind("blouse", _top((56, 66), (1, 4), ("none",), ("round", "v", "square"))),
    "cami": Kind("blouse", _top((50, 62), (0.5, 3), ("none",), ("straps", "straps", "sweetheart")), "W"),
    "crop top": Kind("blouse", _top((40, 46), (0.3, 2), ("none", "cap", "short", "long"), ("square", "v", "sweetheart")), "W"),
    "blouse": Kind("blouse", _top((54, 66), (2, 5), ("short", "elbow", "three-quarter", "long"), ("v", "square", "boat"),
                                  ("puff", "bell"), (1, 6), weave="linen"), "W"),
    "shirt": Kind("blouse", _top((62, 72), (2, 5), ("long", "wrist", "long", "short"), ("round",), weave="linen",
                                 pockets=["none", "patch"], hem_sag=4.0, **SHIRT_COLLAR)),
    "polo": Kind("blouse", _top((60, 68), (1.5, 4), ("short",), ("round",), **SHIRT_COLLAR), "M"),
    "sweater": Kind("blouse", _top((56, 68), (2.5, 6), _LONG, ("round", "v", "boat"), weave="knit")),
    "turtleneck": Kind("blouse", _top((56, 66), (0.5, 3), _LONG, ("round",), weave="knit", collar="turtleneck",
                                      neck_width=6.8, neck_depth=3.0)),
    "hoodie": Kind("blouse", _top((60, 70), (4, 7), ("long",), ("round",), weave="fleece", collar="hood",
                                  neck_width=6.8, neck_depth=4.5, pockets="slant"), plain=True),
    "cardigan": Kind("outwear", _top((58, 78), (3, 5), ("long", "wrist"), ("v",), closure="open", weave="knit", outwear=True)),
    "vest": Kind("outwear", _top((52, 62), (2, 4), ("none",), ("v",), closure="open", outwear=True,
                                 pockets=["patch", "flap"], weave=["fleece", "denim"])),
    "blazer": Kind("outwear", _top((62, 74), (2.5, 5), ("long", "wrist"), ("v",), closure=["buttons", "double"],
                                   pockets="flap", weave="smooth", **_COAT)),
    "jacket": Kind("outwear", _top((46, 60), (2.5, 5.5), ("long",), ("round",), flare=(-2.5, 0), closure="zip", trim=True,
                                   collar=["stand", "shirt"], weave=["denim", "smooth"], **_HIGH)),
    "parka": Kind("outwear", _top((66, 94), (4, 7), ("long",), ("round",), collar="hood", closure="zip", pockets="flap", **_HIGH)),
    "coat": Kind("outwear", _top((96, 138), (3, 6), ("long",), ("v",), flare=(2, 8), closure=["buttons", "double", "open"],
                                 pockets="slant", weave="fleece", **_COAT)),
    "peacoat": Kind("outwear", _top((74, 88), (3, 5), ("long",), ("v",), closure="double", weave="fleece", **_COAT), plain=True),
    "trench": Kind("outwear", _top((90, 128), (2, 3.5), ("long",), ("v",), flare=(5, 12), closure="double", belt=True,
                                   waist=WAIST, **_COAT), plain=True),
    "mini dress": Kind("dress", _dress((80, 94)), "W"),
    "dress": Kind("dress", _dress((96, 120)), "W"),
    "maxi dress": Kind("dress", _dress((124, 148)), "W"),
    "mini skirt": Kind("skirt", _skirt((36, 46), (20, 32)), "W"),
    "skirt": Kind("skirt", _skirt((54, 96), (28, 48), tiers=0), "W"),
    "pencil skirt": Kind("skirt", _skirt((54, 72), (16.5, 19)), "W"),
    "pleated skirt": Kind("skirt", _skirt((42, 76), (26, 38), pleats=20), "W"),
    "jeans": Kind("trousers", _trousers((0.93, 1.02), (7, 12), (0.5, 2), weave="denim"), "WM", ("navy", "blue", "sky blue", "black"),
                  plain=True),
    "skinny jeans": Kind("trousers", _trousers((0.9, 1.0), (5, 5.8), (0, 0.5), weave="denim"), "WM", ("navy", "blue", "black"),
                         plain=True),
    "chinos": Kind("trousers", _trousers((0.92, 1.0), (8, 10), (1, 2.2), pleats=1), "WM", ("beige", "khaki", "brown", "navy"),
                   plain=True),
    "leggings": Kind("trousers", _trousers((0.88, 0.98), (4.6, 5.2), (0, 0.2), pockets="none", closure="none", belt=False), "W"),
    "joggers": Kind("trousers", _trousers((0.9, 0.98), (5.8, 6.8), (3, 5), weave="fleece", belt=False)),
    "wide trousers": Kind("trousers", _trousers((0.94, 1.02), (15, 20), (1.5, 3), weave=["smooth", "linen"])),
    "capris": Kind("trousers", _trousers((0.6, 0.74), (7, 9), (0.5, 1.5)), "W"),
    "culottes": Kind("trousers", _trousers((0.5, 0.68), (14, 18), (2, 3)), "W"),
    "shorts": Kind("trousers", _trousers((0.22, 0.36), (12, 15), (1, 3), weave=["smooth", "linen"])),
    "denim shorts": Kind("trousers", _trousers((0.18, 0.28), (12, 14.5), (0.5, 2), weave="denim"), "WM",
                         ("navy", "blue", "sky blue", "white"), plain=True),
}  # fmt: skip
