"""Sampling of designs: which garments exist and how often."""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fprep.synthetic.garments.design import CROTCH, WAIST, Design
from fprep.synthetic.garments.prints import Print
from fprep.synthetic.garments.shapes import Color, Rng

_Fields = dict[str, Any]  # fields of Design
SHIRT_COLLAR: _Fields = {
    "collar": "shirt", "closure": "buttons", "neckline": "round", "neck_width": 6.6, "neck_depth": 3.5,
}  # fmt: skip


def draw_design(generator: Rng, category: str) -> Design:
    """Sample a garment of the category. The same generator state gives the same garment."""
    color = draw_color(generator)
    accent = _contrast(generator, color)
    fields: _Fields = {
        "hem_sag": within(generator, 0.0, 3.0),
        "gloss": within(generator, 0.7, 1.25),
        "trim": bool(generator.random() < 0.2),
        "seed": int(generator.integers(2**31)),
        "cloth": _draw_print(generator, category, accent),
    }
    return Design(category=category, color=color, accent=accent, **{**fields, **_DRAWERS[category](generator)})


def plain_design(generator: Rng, category: str) -> Design:
    """Sample a garment worn with another one, plain enough not to look like the subject."""
    design = draw_design(generator, category)
    design = replace(design, cloth=Print("plain", design.cloth.colors, 4.0, design.seed))
    if category != "blouse":
        return design
    neckline = _pick(generator, ["round", "v", "boat"])
    bare: _Fields = {"collar": "none", "closure": "none", "motif": "none", "neck_width": 8.0, "neck_depth": 9.0}
    return replace(design, neckline=neckline, **bare)


def draw_color(generator: Rng) -> Color:
    """Sample a color of clothing: mostly white, black, gray, navy or beige, otherwise any hue."""
    kind = generator.random()
    if kind < 0.16:
        rgb = generator.uniform(222, 250) + generator.uniform(-8, 5, 3)
    elif kind < 0.30:
        rgb = generator.uniform(24, 60) + generator.uniform(-5, 5, 3)
    elif kind < 0.38:
        rgb = generator.uniform(90, 190) + generator.uniform(-6, 6, 3)
    elif kind < 0.50:
        rgb = np.array([28, 40, 78]) * generator.uniform(0.7, 1.5)
    elif kind < 0.60:
        rgb = np.array([205, 180, 145]) * generator.uniform(0.65, 1.1)
    else:
        hue, saturation, value = generator.random(), generator.uniform(0.25, 0.75), generator.uniform(0.35, 0.9)
        rgb = np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
    red, green, blue = np.clip(rgb, 12, 250)
    return float(red), float(green), float(blue)


def _contrast(generator: Rng, color: Color) -> Color:
    """Sample a color clearly different from the given one."""
    for _ in range(7):
        other = draw_color(generator)
        if sum(abs(a - b) for a, b in zip(color, other, strict=True)) > 170:
            return other
    return (245.0, 243.0, 238.0) if sum(color) < 380 else (30.0, 32.0, 40.0)


def within(generator: Rng, low: float, high: float) -> float:
    """Sample a measure between two bounds."""
    return float(generator.uniform(low, high))


def _pick(generator: Rng, options: Sequence[str], weights: Sequence[float] | None = None) -> str:
    shares = None if weights is None else np.asarray(weights) / np.sum(weights)
    return options[int(generator.choice(len(options), p=shares))]


_PRINT_WEIGHTS = {  # for blouse, outwear, trousers, dress, skirt
    "plain": (42, 70, 78, 45, 48), "stripes across": (12, 1, 0, 6, 5), "stripes along": (8, 3, 7, 4, 4),
    "stripes diagonal": (2, 1, 0, 2, 2), "gingham": (6, 2, 2, 5, 6), "tartan": (5, 8, 4, 4, 8), "dots": (7, 1, 1, 9, 7),
    "floral": (12, 3, 3, 19, 13), "blobs": (4, 4, 3, 4, 4), "houndstooth": (2, 5, 2, 2, 3),
}  # fmt: skip


def _draw_print(generator: Rng, category: str, accent: Color) -> Print:
    column = list(_DRAWERS).index(category)
    kind = _pick(generator, list(_PRINT_WEIGHTS), [weights[column] for weights in _PRINT_WEIGHTS.values()])
    low, high = {"floral": (4, 10), "tartan": (6, 15), "blobs": (5, 15)}.get(kind, (1.5, 7))
    colors = accent, _contrast(generator, accent)
    return Print(kind, colors, within(generator, low, high), int(generator.integers(2**31)))


def _sleeve(generator: Rng, weights: Sequence[float]) -> _Fields:
    """Sample a sleeve with weights of: none, cap, short, elbow, three quarter, long."""
    cover = float(generator.choice([0.0, 0.2, 0.33, 0.5, 0.72, 1.0], p=np.asarray(weights) / np.sum(weights)))
    shape = _pick(generator, ["straight", "slim", "bell", "puff"], [5, 3, 1.6, 1.4])
    return {"sleeve": cover + (within(generator, -0.04, 0.05) if cover else 0.0), "sleeve_shape": shape}


BARE_NECKS = ("straps", "sweetheart")  # without shoulders
_NECKS = {  # ranges of width and depth
    "round": (6.8, 9.5, 4, 11), "v": (6.5, 9.0, 11, 20), "square": (8, 11.5, 8, 14), "boat": (10.5, 14, 1.5, 4.5),
    "straps": (8.5, 10.5, 11, 16), "sweetheart": (13.5, 13.5, 10.5, 13.5),
}  # fmt: skip


def neck_fields(generator: Rng, kind: str, ranges: tuple[float, float, float, float]) -> _Fields:
    """Sample a neckline; `ranges` are the bounds of its width and of its depth."""
    narrow, wide, shallow, deep = ranges
    width, depth = within(generator, narrow, wide), within(generator, shallow, deep)
    return {"neckline": kind, "neck_width": width, "neck_depth": depth}


def _neck(generator: Rng, weights: Sequence[float]) -> _Fields:
    """Sample a neckline with weights of the first few of `_NECKS`; one without shoulders has no sleeves."""
    kind = _pick(generator, list(_NECKS)[: len(weights)], weights)
    return neck_fields(generator, kind, _NECKS[kind]) | ({"sleeve": 0.0} if kind in BARE_NECKS else {})


def _draw_blouse(generator: Rng) -> _Fields:
    kind = _pick(generator, ["shirt", "tee", "sweater", "top"])
    ease = within(generator, 0.5, 6.0)
    length, hem = within(generator, 50, 68), 17.5 + ease + within(generator, -1.5, 3)
    fields: _Fields = {"ease": ease, "length": length, "hem": hem}
    if kind == "shirt":
        pockets, sag = _pick(generator, ["none", "patch"]), within(generator, 0, 6)
        fields |= {**_sleeve(generator, [0, 0, 2, 1, 1, 6]), **SHIRT_COLLAR}
        fields |= {"weave": "linen", "pockets": pockets, "hem_sag": sag}
    elif kind == "tee":
        motif = _pick(generator, ["none", "disc", "star", "bars"], [4, 1, 1, 1])
        fields |= {**_sleeve(generator, [0, 1, 7, 2, 0, 1]), **_neck(generator, [5, 3, 1, 2])}
        fields |= {"sleeve_shape": "straight", "motif": motif}
    elif kind == "sweater":
        fields |= {**_sleeve(generator, [0, 0, 1, 1, 2, 9]), **_neck(generator, [5, 3, 1, 2]), "weave": "knit"}
        if generator.random() < 0.25:
            fields |= {"collar": "turtleneck", "neckline": "round", "neck_width": 6.8, "neck_depth": 3.0}
    else:
        fields |= {**_sleeve(generator, [2, 2, 3, 2, 2, 3]), **_neck(generator, [3, 3, 2, 2, 1.3])}
        fields |= {"length": within(generator, 44, 66), "hem": 18 + ease + within(generator, 0, 7)}
    return fields


def _draw_outwear(generator: Rng) -> _Fields:
    kind = _pick(generator, ["coat", "blazer", "jacket", "parka", "trench"], [3, 3, 2, 2, 2])
    ease = within(generator, 2.0, 4.0) if kind == "trench" else within(generator, 2.5, 7.0)
    shortest, longest, narrow, wide = {
        "coat": (82, 112, 2, 8), "blazer": (60, 74, 0, 2), "jacket": (48, 60, -2.5, 0), "parka": (64, 92, 0, 4),
        "trench": (82, 108, 5, 13),
    }[kind]  # fmt: skip
    fields: _Fields = {
        **_sleeve(generator, [0, 0, 0, 0, 1, 14]),
        "sleeve_shape": _pick(generator, ["straight", "slim", "bell"], [6, 2, 1]),
        "ease": ease,
        "length": within(generator, shortest, longest),
        "hem": 19 + ease + within(generator, narrow, wide),
        "neckline": "v",
        "neck_depth": within(generator, 16, 32),
        "collar": "lapel",
        "pockets": _pick(generator, ["flap", "patch", "slant", "none"]),
        "closure": _pick(generator, ["buttons", "double", "open"]),
        "weave": _pick(generator, ["smooth", "fleece", "linen"]),
    }
    short_neck: _Fields = {"neckline": "round", "neck_depth": 4.5}
    if kind == "jacket":
        collar, weave = _pick(generator, ["stand", "shirt"]), _pick(generator, ["denim", "smooth"])
        fields |= {**short_neck, "collar": collar, "closure": "zip", "trim": True, "weave": weave}
    elif kind == "parka":
        closure = _pick(generator, ["zip", "open"])
        fields |= {**short_neck, "collar": "hood", "closure": closure, "pockets": "flap", "weave": "smooth"}
    elif kind == "trench":
        fields |= {"waist": WAIST + within(generator, -2, 4), "belt": True, "closure": "double"}
    elif kind == "blazer" and generator.random() < 0.3:
        fields |= {"waist": WAIST + within(generator, -2, 3), "belt": bool(generator.random() < 0.6), "ease": 2.0}
    return fields


def _draw_dress(generator: Rng) -> _Fields:
    waisted = bool(generator.random() < 0.7)
    ease = within(generator, 0.0, 2.0) if waisted else within(generator, 1.5, 6.0)
    narrow = bool(generator.random() < 0.35)
    hem = within(generator, 17, 24) if narrow else within(generator, 24, 46)
    fields: _Fields = {
        **_sleeve(generator, [2, 2, 5, 2, 2, 5]),
        **_neck(generator, [5, 4, 1.5, 2, 1.3, 0.9]),
        "ease": ease,
        "length": within(generator, 82, 134),
        "hem": hem if waisted else 19 + ease + within(generator, 0, 9),
        "waist": WAIST + within(generator, -5, 4) if waisted else None,
        "belt": waisted and bool(generator.random() < 0.4),
        "pleats": int(generator.choice([0, 0, 0, 14, 22])) if waisted and not narrow else 0,
        "tiers": int(generator.choice([0, 0, 0, 0, 2, 3])),
        "weave": _pick(generator, ["smooth", "linen", "knit"], [6, 2, 1]),
    }
    if fields["neckline"] not in BARE_NECKS and generator.random() < 0.15:
        fields |= SHIRT_COLLAR
    return fields


def _draw_skirt(generator: Rng) -> _Fields:
    kind = _pick(generator, ["pencil", "a-line", "flared", "pleated", "tiered", "denim"], [3, 3, 3, 2, 1, 1.5])
    narrow, wide = {
        "pencil": (17, 20), "a-line": (22, 30), "flared": (32, 52), "pleated": (24, 38), "tiered": (26, 40), "denim": (19, 25),
    }[kind]  # fmt: skip
    length = within(generator, 34, 62) if generator.random() < 0.6 else within(generator, 62, 92)
    fields: _Fields = {
        "ease": within(generator, 0, 1.5),
        "length": length,
        "hem": within(generator, narrow, wide),
        "waist": WAIST + within(generator, -3, 8),
        "belt": bool(generator.random() < 0.25),
        "pleats": int(generator.integers(10, 26)) if kind == "pleated" else 0,
        "tiers": int(generator.integers(2, 4)) if kind == "tiered" else 0,
        "weave": _pick(generator, ["smooth", "linen", "knit", "fleece"]),
        "pockets": _pick(generator, ["none", "slant"]),
        "closure": _pick(generator, ["none", "buttons", "zip"], [4, 1, 1]),
    }
    if kind == "denim":
        fields |= {"weave": "denim", "pockets": "slant", "length": min(length, 46.0)}
    return fields


def _draw_trousers(generator: Rng) -> _Fields:
    kind = _pick(generator, ["skinny", "straight", "wide", "flared", "joggers"], [3, 4, 3, 2, 1.5])
    narrow, wide, ease = {
        "skinny": (5.0, 6.2, 0.0), "straight": (8, 10.5, 1.5), "wide": (13, 19, 2.5), "flared": (11.5, 16, 0.3),
        "joggers": (5.8, 7.0, 3.0),
    }[kind]  # fmt: skip
    share = float(generator.choice([0.32, 0.5, 0.82, 1.0], p=[0.2, 0.06, 0.18, 0.56]))
    waist, hem = WAIST + within(generator, -3, 9), within(generator, narrow, wide)
    ease += within(generator, 0, 1.0)
    return {
        "ease": ease,
        "length": CROTCH - waist + 74 * (share + within(generator, -0.05, 0.03)),
        "hem": hem if share > 0.6 else max(hem, 11.0 + ease),
        "waist": waist,
        "belt": bool(generator.random() < 0.3),
        "weave": _pick(generator, ["denim", "smooth", "linen", "fleece"], [4, 4, 1, 1]),
        "pockets": _pick(generator, ["slant", "flap", "none"], [6, 1, 2]),
        "closure": "zip",
        "pleats": int(kind in ("straight", "wide") and generator.random() < 0.5),
    }


_DRAWERS: dict[str, Callable[[Rng], _Fields]] = {
    "blouse": _draw_blouse, "outwear": _draw_outwear, "trousers": _draw_trousers, "dress": _draw_dress, "skirt": _draw_skirt,
}  # fmt: skip
