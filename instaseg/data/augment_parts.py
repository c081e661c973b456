"""Random changes of parts of a crop: hidden boxes, missing sections, a crop over another.

Each takes a normalised image ``(c, [z,] y, x)`` of float32 or layers of labels, changes nothing in
it, and returns a new one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.data.augment_values import Image, mean_or_zero
from instaseg.data.config import CutoutSettings, MissingSectionsSettings

_CUTOUT_BLUR = 4.0


def with_hidden_boxes(image: Image, rng: np.random.Generator, settings: CutoutSettings) -> Image:
    """Return an image with random boxes hidden, or spoilt by noise or blur."""
    boxes = list(_boxes(image.shape[1:], rng, settings))
    hidden = image.copy()
    if settings.fill in ("mean", "zero"):
        replacement = np.broadcast_to(mean_or_zero(image, settings.fill), image.shape)
    elif settings.fill == "noise":
        spread = image.std(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float32)
        replacement = image + spread * rng.standard_normal(image.shape, dtype=np.float32)
    else:
        sigma = (0, *(_CUTOUT_BLUR,) * (image.ndim - 1))
        replacement = ndimage.gaussian_filter(image, sigma)
    for box in boxes:
        hidden[(slice(None), *box)] = replacement[(slice(None), *box)]
    return hidden


def _boxes(
    shape: tuple[int, ...], rng: np.random.Generator, settings: CutoutSettings
) -> Iterator[tuple[slice, ...]]:
    """Yield random boxes inside an image of `shape`, of at least one voxel."""
    for _ in range(rng.integers(settings.count[0], settings.count[1] + 1)):
        extents = [max(1, round(n * rng.uniform(*settings.size))) for n in shape]
        begins = [int(rng.integers(0, n - e + 1)) for n, e in zip(shape, extents, strict=True)]
        yield tuple(slice(b, b + e) for b, e in zip(begins, extents, strict=True))


def with_missing_sections(
    image: Image, rng: np.random.Generator, settings: MissingSectionsSettings
) -> Image:
    """Return a volume ``(c, z, y, x)`` with some sections black, or equal to the one before them.

    At least one section is left. The first one has none before it and becomes like the one after
    the gap.
    """
    depth = image.shape[1]
    count = min(int(rng.integers(settings.count[0], settings.count[1] + 1)), depth - 1)
    first = int(rng.integers(0, depth - count + 1))
    gap = image.copy()
    if settings.fill == "zero":
        gap[:, first : first + count] = 0
    else:
        kept = first - 1 if first > 0 else first + count
        gap[:, first : first + count] = image[:, kept : kept + 1]
    return gap


def stack_layers(first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the layers of two crops ``(l, ...)`` as one, ids of the second above the first's.

    Examples
    --------
    >>> stack_layers(np.array([[0, 7]], np.int32), np.array([[1, 0]], np.int32)).tolist()
    [[0, 7], [8, 0]]
    """
    return np.concatenate([first, np.where(second != 0, second + first.max(), 0)], dtype=np.int32)


def common_classes(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the classes of two crops that lie over each other; 0 where they do not agree.

    Examples
    --------
    >>> common_classes(np.array([0, 1, 1, 2], np.uint8), np.array([2, 0, 1, 1], np.uint8)).tolist()
    [2, 1, 1, 0]
    """
    agree = (first == second) | (first == 0) | (second == 0)
    return np.where(agree, np.maximum(first, second), 0).astype(np.uint8)
