"""Pairs of near-duplicate images: candidates by fingerprint, confirmed by thumbnail.

Candidates share one of the four 16-bit bands of the fingerprint up to one bit (multi-index hashing; Norouzi, Punjani
and Fleet, Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012). This finds every pair up to 7 bits apart,
and 96%, 88% and 78% of the pairs 8, 9 and 10 bits apart. Shop images on white look alike without being the same: a
candidate counts only if luma, fine detail and color agree after the small shift and stretch of a crop is undone.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fprep.near_duplicates.alignment import compare_aligned
from fprep.near_duplicates.perceptual_hash import FLIP_MASK, Views, split_thumbnails
from fschemas.cores import available_cores

LARGEST_DISTANCE = 10
_BANDS, _BAND_BITS = 4, 16
_MAX_AT_ONCE = 1 << 22  # candidates in memory
_MAX_EQUAL = 64  # images with the same fingerprint that are all compared with each other
_VERIFY_AT_ONCE = 512  # pairs, 13 MB per thread

# Measured on 11,327 shop and street photographs, and on resized, recompressed and cropped (up to 4%) copies of them.
_MIN_ROUGH = 0.80  # correlation of luma before alignment
_MAX_ROUGH_COLOR = 4.0  # mean difference of chroma levels before alignment
_MIN_CORRELATION = 0.99
_MIN_DETAIL = 0.88  # correlation of detail finer than five pixels of the thumbnail
_MAX_DIFFERENCE = 14.0  # RMS difference of luma levels
_MAX_COLOR = 3.0
_GRAY = 2.5  # mean distance of chroma from gray below which an image counts as black and white


@dataclass(frozen=True)
class NearPairs:
    """Pairs of image indices, first < second, ascending, with Hamming distance and whether one is flipped."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    flipped: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(
    views: Views, *, distance: int = LARGEST_DISTANCE, progress: Callable[[int, int], None] | None = None
) -> NearPairs:
    """Return all confirmed pairs of images, by any of their views."""
    pairs, thumbnails = candidate_pairs(views.bits, distance), views.thumbnails
    keep = np.zeros(len(pairs), bool)

    def verify(start: int) -> int:
        part = slice(start, start + _VERIFY_AT_ONCE)
        keep[part] = look_the_same(thumbnails[pairs.first[part]], thumbnails[pairs.second[part]], pairs.flipped[part])
        return min(start + _VERIFY_AT_ONCE, len(pairs))

    with ThreadPoolExecutor(available_cores()) as threads:  # numpy releases the GIL while it computes
        for done in threads.map(verify, range(0, len(pairs), _VERIFY_AT_ONCE)):
            if progress is not None:
                progress(done, len(pairs))
    first, second = views.owners[pairs.first[keep]], views.owners[pairs.second[keep]]
    return _distinct(first, second, pairs.distance[keep], pairs.flipped[keep])


def candidate_pairs(bits: np.ndarray, distance: int = LARGEST_DISTANCE) -> NearPairs:
    """Return pairs at most `distance` bits apart that share a band, flipped or not, each at its smallest distance.

    Of a large group with the same fingerprint, every image is compared with the first only. `bits` is (V,) uint64.
    """
    crowd_first, crowd_second, kept = _crowds(bits)
    found = [(crowd_first, crowd_second, *np.zeros((2, len(crowd_first)), np.uint8))]
    for band in range(_BANDS):
        for first, second, apart, flipped in _band_pairs(bits[kept], band, distance):
            found.append((kept[first], kept[second], apart, flipped))
    return _distinct(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _distinct(first: np.ndarray, second: np.ndarray, apart: np.ndarray, flipped: np.ndarray) -> NearPairs:
    """Keep each pair once, at its smallest distance."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((flipped, apart, high, low))
    low, high, apart, flipped = low[order], high[order], apart[order], flipped[order]
    new = np.ones(len(low), bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    new &= low != high
    return NearPairs(low[new], high[new], apart[new].astype(np.int64), flipped[new].astype(bool))


def _crowds(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs (first of a large group, image beyond the 64th), and the images that remain to be searched."""
    order = np.argsort(bits, kind="stable")
    values = bits[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    rank = np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
    beyond = rank >= _MAX_EQUAL
    return order[np.arange(len(values))[beyond] - rank[beyond]], order[beyond], np.sort(order[~beyond])


def _band_pairs(bits: np.ndarray, band: int, distance: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield first, second, distance, flipped of pairs that differ by at most one bit in the band."""
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
            if change:  # buckets come in pairs: visit each pair once, from its lower side
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
    """Yield (query, candidate) for each candidate in low .. high - 1 of each query, in chunks that fit in memory."""
    counts = highs - lows
    ends = np.cumsum(counts)
    start = 0
    while start < len(queries):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _MAX_AT_ONCE, side="right")), start + 1)
        here = counts[start:stop]
        total = int(here.sum())
        if total:
            rows = np.repeat(np.arange(start, stop), here)
            offsets = np.arange(total) - np.repeat(np.cumsum(here) - here, here)
            yield queries[rows], lows[rows] + offsets
        start = stop


def look_the_same(first: np.ndarray, second: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Return whether thumbnails match, (N,). Both inputs are (N, THUMBNAIL_BYTES); `flipped` (N,) flips the second."""
    luma, color = split_thumbnails(first)
    other_luma, other_color = (plane.copy() for plane in split_thumbnails(second))
    for plane in (other_luma, other_color):
        plane[flipped] = plane[flipped][:, :, ::-1]
    colors = color.astype(np.float32), other_color.astype(np.float32)
    color_difference = np.abs(colors[0] - colors[1]).mean((1, 2, 3))
    one_is_gray = np.min([np.abs(plane - 128).mean((1, 2, 3)) for plane in colors], axis=0) < _GRAY
    verdict = (_correlation(luma, other_luma) >= _MIN_ROUGH) & ((color_difference <= _MAX_ROUGH_COLOR) | one_is_gray)
    rows = np.flatnonzero(verdict)
    if len(rows):
        match = compare_aligned(luma[rows], other_luma[rows])
        verdict[rows] = (
            (match.correlation >= _MIN_CORRELATION) & (match.detail >= _MIN_DETAIL)
            & (match.difference <= _MAX_DIFFERENCE) & ((color_difference[rows] <= _MAX_COLOR) | one_is_gray[rows])
        )  # fmt: skip
    return verdict


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    flat = [plane.reshape(len(plane), -1).astype(np.float32) for plane in (first, second)]
    a, b = (plane - plane.mean(1, keepdims=True) for plane in flat)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1) + 1e-6)
