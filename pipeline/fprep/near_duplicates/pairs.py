"""Pairs of images that look the same: candidates by their fingerprints, confirmed by their thumbnails.

Candidates share one of four 16-bit bands of the fingerprint but for one bit at most (multi-index hashing; Norouzi, Punjani and
Fleet, Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012). So every pair up to 7 bits apart is found, and of
pairs 8, 9 and 10 apart 96, 88 and 78 %. Shop images on white look alike without being the same: a candidate counts only
if, after the small shift and stretch of a crop is undone, luma, fine detail and color agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fprep.near_duplicates.alignment import compare_aligned
from fprep.near_duplicates.perceptual_hash import FLIP_MASK, Views, split_thumbnails
from fschemas.cores import available_cores

LARGEST_DISTANCE = 10
_BANDS, _BAND_BITS = 4, 16
_MOST_AT_ONCE = 1 << 22  # candidates in memory
_MOST_EQUAL = 64  # images of one and the same fingerprint that are all compared with each other
_VERIFY_AT_ONCE = 512  # pairs, 13 MB a thread

# Measured on 11,327 shop and street photographs and on copies of them, resized, recompressed and cropped by up to 4 %.
_LEAST_ROUGH = 0.80  # correlation of luma before the alignment
_MOST_ROUGH_COLOR = 4.0  # mean difference of chroma levels before the alignment
_LEAST_CORRELATION = 0.99
_LEAST_DETAIL = 0.88  # correlation of what is finer than five pixels of the thumbnail
_MOST_DIFFERENCE = 14.0  # root mean square of luma levels
_MOST_COLOR = 3.0
_GREY = 2.5  # mean distance of chroma from grey below which an image counts as black and white


@dataclass(frozen=True)
class NearPairs:
    """Pairs of image numbers, first < second, ascending: bits apart, and whether one is a flipped copy of the other."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    flipped: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(
    views: Views, *, distance: int = LARGEST_DISTANCE, progress: Callable[[int, int], None] | None = None
) -> NearPairs:
    """All confirmed pairs of images, by any view of either."""
    pairs, thumbnails = candidate_pairs(views.bits, distance), views.thumbnails
    keep = np.zeros(len(pairs), bool)

    def verify(start: int) -> int:
        part = slice(start, start + _VERIFY_AT_ONCE)
        keep[part] = look_the_same(thumbnails[pairs.first[part]], thumbnails[pairs.second[part]], pairs.flipped[part])
        return min(start + _VERIFY_AT_ONCE, len(pairs))

    with ThreadPoolExecutor(available_cores()) as threads:  # numpy lets go of the interpreter while it computes
        for done in threads.map(verify, range(0, len(pairs), _VERIFY_AT_ONCE)):
            if progress is not None:
                progress(done, len(pairs))
    first, second = views.owners[pairs.first[keep]], views.owners[pairs.second[keep]]
    return _distinct(first, second, pairs.distance[keep], pairs.flipped[keep])


def candidate_pairs(bits: np.ndarray, distance: int = LARGEST_DISTANCE) -> NearPairs:
    """Pairs at most `distance` bits apart, flipped or not, as far as the bands find them; each pair once, at its nearest.

    Of a crowd with one and the same fingerprint, all are compared with the first only.
    """
    crowd_first, crowd_second, kept = _crowds(bits)
    found = [(crowd_first, crowd_second, *np.zeros((2, len(crowd_first)), np.uint8))]
    for band in range(_BANDS):
        for first, second, apart, flipped in _band_pairs(bits[kept], band, distance):
            found.append((kept[first], kept[second], apart, flipped))
    return _distinct(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _distinct(first: np.ndarray, second: np.ndarray, apart: np.ndarray, flipped: np.ndarray) -> NearPairs:
    """Each pair of two once, at its nearest."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((flipped, apart, high, low))
    low, high, apart, flipped = low[order], high[order], apart[order], flipped[order]
    new = np.ones(len(low), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    new &= low != high
    return NearPairs(low[new], high[new], apart[new].astype(np.int64), flipped[new].astype(bool))


def _crowds(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (first of a crowd, one beyond the 64th), and the images that remain for the search."""
    order = np.argsort(bits, kind="stable")
    values = bits[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    place = np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
    beyond = place >= _MOST_EQUAL
    return order[np.arange(len(values))[beyond] - place[beyond]], order[beyond], np.sort(order[~beyond])


def _band_pairs(bits: np.ndarray, band: int, distance: int) -> Iterator[tuple[np.ndarray, ...]]:
    """first, second, distance, flipped of pairs whose band differs by a bit at most."""
    shift = _BAND_BITS * band
    keys = ((bits >> np.uint64(shift)) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)
    order = np.argsort(keys, kind="stable")
    keys, ordered = keys[order], bits[order]
    starts = np.searchsorted(keys, np.arange((1 << _BAND_BITS) + 1))
    for flipped in (0, 1):
        others = ordered ^ np.uint64(FLIP_MASK) if flipped else ordered
        mask = (FLIP_MASK >> shift) & ((1 << _BAND_BITS) - 1) if flipped else 0
        for probe in (0, *(1 << bit for bit in range(_BAND_BITS))):
            change = mask ^ probe
            if change:  # buckets come in pairs: take each from its lower side
                queries = np.flatnonzero((keys & (1 << (change.bit_length() - 1))) == 0)
                lows, highs = starts[keys[queries] ^ change], starts[(keys[queries] ^ change) + 1]
            else:
                queries = np.arange(len(keys))
                lows, highs = queries + 1, starts[keys + 1]
            for first, second in _expand(queries, lows, highs):
                apart = np.bitwise_count(ordered[first] ^ others[second])
                near = np.flatnonzero(apart <= distance)
                yield order[first[near]], order[second[near]], apart[near], np.full(len(near), flipped, np.uint8)


def _expand(queries: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(query, candidate) for every candidate of low … high - 1 of each query, in pieces that fit into memory."""
    counts = highs - lows
    ends = np.cumsum(counts)
    start = 0
    while start < len(queries):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _MOST_AT_ONCE, side="right")), start + 1)
        here = counts[start:stop]
        total = int(here.sum())
        if total:
            rows = np.repeat(np.arange(start, stop), here)
            offsets = np.arange(total) - np.repeat(np.cumsum(here) - here, here)
            yield queries[rows], lows[rows] + offsets
        start = stop


def look_the_same(first: np.ndarray, second: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Whether the thumbnails (N, THUMBNAIL_BYTES) of each pair show the same image; the second ones are flipped where `flipped` says so."""
    luma, color = split_thumbnails(first)
    other_luma, other_color = (plane.copy() for plane in split_thumbnails(second))
    for plane in (other_luma, other_color):
        plane[flipped] = plane[flipped][:, :, ::-1]
    colors = color.astype(np.float32), other_color.astype(np.float32)
    color_difference = np.abs(colors[0] - colors[1]).mean((1, 2, 3))
    one_is_grey = np.min([np.abs(plane - 128).mean((1, 2, 3)) for plane in colors], axis=0) < _GREY
    verdict = (_correlation(luma, other_luma) >= _LEAST_ROUGH) & ((color_difference <= _MOST_ROUGH_COLOR) | one_is_grey)
    rows = np.flatnonzero(verdict)
    if len(rows):
        match = compare_aligned(luma[rows], other_luma[rows])
        verdict[rows] = (
            (match.correlation >= _LEAST_CORRELATION) & (match.detail >= _LEAST_DETAIL)
            & (match.difference <= _MOST_DIFFERENCE) & ((color_difference[rows] <= _MOST_COLOR) | one_is_grey[rows])
        )  # fmt: skip
    return verdict


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    flat = [plane.reshape(len(plane), -1).astype(np.float32) for plane in (first, second)]
    a, b = (plane - plane.mean(1, keepdims=True) for plane in flat)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1) + 1e-6)
