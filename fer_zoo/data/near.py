"""Near duplicates: pairs of faces whose hashes and pixels are alike."""

import numpy as np

from fer_zoo._progress import progress_bar

CORRELATION = 0.9
"""Correlation of pixels, after the best shift, that near duplicates have at least."""
SHIFT = 3
"""Largest shift in px, in each direction, that is tried between two crops of one photograph."""
LINKS = 20
"""Pairs of a face of a group, after which no more are looked for."""


def near_pairs(
    images: np.ndarray, hashes: np.ndarray, near_bits: int, progress: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs i < j of near duplicates, with their distance and correlation.

    Faces of one group that have `LINKS` pairs each are not compared: a film's would be millions.
    """
    found = [np.empty((4, 0))]
    links, group = np.zeros(len(hashes), np.int64), np.arange(len(hashes))
    size = 256  # 64 MB of distances for 32,000 faces
    starts = range(0, len(hashes), size)
    for start in progress_bar(starts, desc="comparing", show=progress):
        apart = np.bitwise_count(hashes[start : start + size, None] ^ hashes[None, start:])
        i, j = np.nonzero(apart <= near_bits)
        i, j = i[i < j], j[i < j]
        for at in range(0, len(i), 1024):
            a, b = i[at : at + 1024] + start, j[at : at + 1024] + start
            new = (group[a] != group[b]) | (np.minimum(links[a], links[b]) < LINKS)
            if not new.any():
                continue
            a, b = a[new], b[new]
            alike = _likeness(images, a, b)
            a, b, alike = (column[alike >= CORRELATION] for column in (a, b, alike))
            found.append(np.stack([a, b, apart[a - start, b - start], alike]))
            for one, other in zip(a, b, strict=True):
                links[[one, other]] += 1
                if group[one] != group[other]:
                    group[group == group[other]] = group[one]
    *whole, alike = np.concatenate(found, 1)
    i, j, bits = np.array(whole, dtype=np.int64)
    return i, j, bits, alike


def _likeness(images: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the first's core with the second at the best shift."""
    height, width = (side - 2 * SHIFT for side in images.shape[1:])
    best = np.full(len(first), -1.0)
    core = _standardised(images[first, SHIFT:-SHIFT, SHIFT:-SHIFT])
    for y, x in np.ndindex(2 * SHIFT + 1, 2 * SHIFT + 1):
        other = _standardised(images[second, y : y + height, x : x + width])
        best = np.maximum(best, np.einsum("np,np->n", core, other))
    return best


def _standardised(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    unit: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return unit
