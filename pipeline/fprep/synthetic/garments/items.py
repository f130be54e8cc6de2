"""Items: garments for sale, with all properties that are visible in an image.

An item is sampled once and photographed many times (`shoot.photograph`). Attributes are derived from its design, so
every label of a sample agrees with the pixels.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fprep.synthetic.garments.design import CROTCH, Design
from fprep.synthetic.garments.kinds import KINDS, SLEEVES, one_of
from fprep.synthetic.garments.palette import COLORS, LOOKS, draw_named_color
from fprep.synthetic.garments.prints import Print
from fprep.synthetic.garments.shapes import Rng

_PITCH = {"floral": (4, 9), "tartan": (6, 13), "blobs": (6, 15), "gingham": (3, 6), "stripes along": (2, 5)}
_LEATHER_GLOSS = 2.0


@dataclass(frozen=True)
class Item:
    """A garment for sale. `kind` is a key of `KINDS`, `look` of `LOOKS`, `color` and `accent` of `COLORS`."""

    number: int
    kind: str
    look: str
    color: str
    accent: str
    design: Design

    @property
    def category(self) -> str:
        """The FashionAI category."""
        return self.design.category

    @property
    def print(self) -> str:
        """The key of `prints.PRINTS`."""
        return self.design.cloth.kind

    @property
    def pattern(self) -> str:
        """The print, or the motif on the chest: disc, star or bars."""
        return self.print if self.design.motif == "none" else self.design.motif

    @property
    def sleeve(self) -> str:
        """The nearest key of `SLEEVES`; "none" without sleeves."""
        return min(SLEEVES, key=lambda name: abs(SLEEVES[name] - self.design.sleeve))

    @property
    def end(self) -> float:
        """The height of the hem, in cm below the pit of the neck."""
        return self.design.length + (self.design.waist or 0.0 if self.category in ("skirt", "trousers") else 0.0)

    @property
    def leg_share(self) -> float:
        """The share of the leg that trousers cover, 0 … 1."""
        return (self.end - CROTCH) / 74.0

    @property
    def neck(self) -> str:
        """The collar, or the neckline if there is none; "" for skirts and trousers."""
        if self.category in ("skirt", "trousers"):
            return ""
        if self.kind == "polo":
            return "polo"
        return self.design.collar if self.design.collar != "none" else self.design.neckline

    @property
    def fabric(self) -> str:
        """The visible fabric: the weave, or leather."""
        return "leather" if self.design.gloss >= _LEATHER_GLOSS else self.design.weave

    @property
    def fit(self) -> str:
        """The fit: tight, regular or loose."""
        tight, loose = (1.0, 2.6) if self.category in ("skirt", "trousers") else (1.8, 4.2)
        return "tight" if self.design.ease < tight else "loose" if self.design.ease > loose else "regular"

    @property
    def length(self) -> str:
        """The length: mini, knee, midi or maxi; shorts, cropped or long trousers; crop, regular or longline tops."""
        if self.category == "trousers":
            return _step(self.leg_share, (0.45, 0.8), ("shorts", "cropped", "long"))
        if self.category in ("dress", "skirt"):
            return _step(self.end, (98, 116, 123), ("mini", "knee", "midi", "maxi"))
        return _step(self.end, (50, 74), ("crop", "regular", "longline"))

    @property
    def cut(self) -> str:
        """The cut by the width of the hem: skinny, straight or wide; pencil, a-line or flared; "" for tops."""
        if self.category in ("blouse", "outwear"):
            return ""
        if self.category == "trousers":
            return _step(self.design.hem, (6, 14), ("skinny", "straight", "wide"))
        return _step(self.design.hem, (21, 34), ("pencil", "a-line", "flared"))

    def facets(self) -> Iterator[tuple[str, str]]:
        """Yield what can be seen: pairs of a property and its value, such as ("neck", "v")."""
        design = self.design
        yield from (("look", self.look), ("kind", self.kind), ("category", self.category), ("fabric", self.fabric))
        yield from (("fit", self.fit), ("length", self.length), ("closure", design.closure), ("print", self.pattern))
        if self.neck:
            yield from (("neck", self.neck), ("sleeve", self.sleeve))
        details = {"pockets": design.pockets != "none", "belt": design.belt, "pleats": design.pleats > 5}
        yield from (("detail", name) for name, has in {**details, "tiers": design.tiers > 0}.items() if has)
        if design.sleeve:
            yield "sleeve_shape", design.sleeve_shape
        yield "cut", self.cut

    def words(self, tables: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield (property, word) for the words of a data set for what can be seen, from tables by property.

        A table named `length of skirt` replaces `length` for skirts. Cells are words separated by commas.
        """
        for facet, value in self.facets():
            cell = tables.get(f"{facet} of {self.category}", tables.get(facet, {})).get(value, "")
            yield from ((facet, word) for word in cell.split(",") if word)


def _step(value: float, bounds: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[bisect_right(bounds, value)]


def draw_item(seed: int, number: int, kinds: Mapping[str, float], looks: Mapping[str, float] | None = None) -> Item:
    """Sample item `number`: kind and look by weight, the rest at random. It depends only on (seed, number)."""
    generator = np.random.default_rng(np.random.SeedSequence((seed, 101, number)))
    look = pick(generator, looks or dict.fromkeys(LOOKS, 1.0))
    return item_of(generator, number, pick(generator, kinds), look)


def item_of(generator: Rng, number: int, kind: str, look: str) -> Item:
    """Sample an item of this kind and look."""
    rules, style = KINDS[kind], LOOKS[look]
    color = one_of(generator, *(rules.colors or style.colors))
    accents = [name for name in style.accents if name != color]
    accent = one_of(generator, *(accents or [name for name in ("white", "black") if name != color]))
    cloth = "plain" if rules.plain else one_of(generator, *style.prints)
    other = "white" if "white" not in (color, accent) else "black" if "black" not in (color, accent) else "yellow"
    accents_rgb = draw_named_color(generator, accent), COLORS[other]
    low, high = _PITCH.get(cloth, (2.0, 5.0))
    seeds = generator.integers(2**31, size=2)
    fields: dict[str, Any] = {
        "hem_sag": 1.0,
        "gloss": float(generator.uniform(0.7, 1.2)),
        "trim": False,
        **rules.draw(generator),
    }
    if kind == "jacket" and fields["weave"] == "smooth" and color in ("black", "brown", "wine", "red"):
        fields["gloss"], cloth = _LEATHER_GLOSS + 0.2, "plain"
    if fields.get("motif", "none") != "none":
        cloth = "plain"
    design = Design(
        category=rules.category,
        color=draw_named_color(generator, color),
        accent=accents_rgb[0],
        cloth=Print(cloth, accents_rgb, float(generator.uniform(low, high)), int(seeds[0])),
        seed=int(seeds[1]),
        **fields,
    )
    return Item(number, kind, look, color, accent, design)


def draw_outfit(generator: Rng, number: int, look: str) -> list[Item]:
    """Sample matching garments of one look, from the skin outward.

    These are a dress or a lower and an upper garment, and possibly a coat.
    """
    kinds = LOOKS[look].kinds

    def some(*categories: str) -> list[str]:
        return [kind for kind in kinds if KINDS[kind].category in categories]

    def one(options: list[str]) -> Item:
        return item_of(generator, number, one_of(generator, *options), look)

    dresses, outer = some("dress"), some("outwear")
    if dresses and generator.random() < 0.45:
        outfit = [one(dresses)]
    else:
        outfit = [one(some("trousers", "skirt") or ["jeans"]), one(some("blouse") or ["tee", "shirt"])]
    return [*outfit, one(outer)] if outer and generator.random() < 0.4 else outfit


def pick(generator: Rng, weights: Mapping[str, float]) -> str:
    """Sample a key by weight."""
    shares = np.cumsum(list(weights.values()))
    return list(weights)[int(np.searchsorted(shares, generator.random() * shares[-1], side="right"))]
