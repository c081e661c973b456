"""Thresholds from how often values occur: counts of blocks add up to those of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ValueCounts:
    """How often each value occurs.

    Parameters
    ----------
    values : ndarray, (n,)
        Ascending, each once.
    counts : ndarray of int64, (n,)
        Positive.
    """

    values: NDArray[Any]
    counts: NDArray[np.int64]

    def __add__(self, other: ValueCounts) -> ValueCounts:
        """Return how often values occur in both."""
        values, place = np.unique(np.concatenate([self.values, other.values]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return ValueCounts(values, counts)

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """Return what a store keeps, from which :func:`sum_counts` makes it again."""
        return {f"{prefix}values": self.values, f"{prefix}counts": self.counts}


def sum_counts(parts: Iterable[Mapping[str, NDArray[Any]]], prefix: str = "") -> ValueCounts:
    """Return how often values occur in all parts, one at least, each as ``ValueCounts.arrays``."""
    counted = (ValueCounts(part[f"{prefix}values"], part[f"{prefix}counts"]) for part in parts)
    return reduce(add, counted)


def count_values(array: NDArray[Any]) -> ValueCounts:
    """Return how often each value of an array occurs.

    Parameters
    ----------
    array : ndarray
        Finite numbers of any type and shape.

    Examples
    --------
    >>> counted = count_values(np.array([0.5, 2.0, 0.5]))
    >>> counted.values.tolist(), counted.counts.tolist()
    ([0.5, 2.0], [2, 1])
    """
    if array.dtype in (np.uint8, np.float16):
        # at most 65536 values: counted without sorting; -0 becomes 0
        bits = (array + array.dtype.type(0)).reshape(-1).view(f"u{array.dtype.itemsize}")
        counts = np.bincount(bits)
        found = np.flatnonzero(counts)
        values = found.astype(bits.dtype).view(array.dtype)
        order = np.argsort(values)
        return ValueCounts(values[order], counts[found][order].astype(np.int64))
    values, counts = np.unique(array, return_counts=True)
    return ValueCounts(values, counts.astype(np.int64))


def otsu(counts: ValueCounts) -> float:
    """Return the value that cuts values best in two: those up to it, and those above it.

    Of all cuts, that with the greatest variance between the two classes; the lowest of equal ones.
    No histogram with bins is formed: every occurring value is tried.

    Parameters
    ----------
    counts : ValueCounts
        Of at least one value. A single value is its own threshold.

    Raises
    ------
    ValueError
        If there are no values.

    References
    ----------
    N. Otsu, A threshold selection method from gray-level histograms, IEEE Trans. Systems, Man, and
    Cybernetics 9 (1979), equation 18. https://doi.org/10.1109/TSMC.1979.4310076

    Examples
    --------
    >>> otsu(count_values(np.array([0.1, 0.1, 0.2, 0.8, 0.9])))
    0.2
    """
    if not len(counts.values):
        raise ValueError("expected values to find a threshold for, found none")
    values, number = counts.values.astype(np.float64), counts.counts.astype(np.float64)
    if len(values) == 1:
        return float(values[0])
    below = np.cumsum(number)[:-1]
    above = number.sum() - below
    weighted = values * number
    sum_below = np.cumsum(weighted)[:-1]
    sum_above = np.cumsum(weighted[::-1])[::-1][1:]
    between = below * above * (sum_below / below - sum_above / above) ** 2
    return float(values[np.argmax(between)])
