"""The simplest segmentation there is, as a yardstick beside the method's score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from instaseg.blockwise.components import local_labels
from instaseg.errors import DataError
from instaseg.io.arrays import ArraySource, slabs

_BINS = 256

# scikit-image has no type annotations
_threshold_otsu: Any = threshold_otsu


class OtsuForeground:
    """1 where an image is brighter than Otsu's threshold, worked out when it is indexed.

    The threshold is found first, from a histogram: of every integer, or of 256 bins for other
    numbers. The image is read slab by slab for that, twice.

    Parameters
    ----------
    raw : array, (c, [z,] y, x)
        Image of any numeric type, objects brighter than background, in memory or on disk; several
        channels are averaged. Not changed.

    Raises
    ------
    DataError
        For another number of axes, and for NaN or infinite values.

    References
    ----------
    .. [1] Otsu, A threshold selection method from gray-level histograms, 1979,
       https://doi.org/10.1109/TSMC.1979.4310076
    """

    def __init__(self, raw: ArraySource) -> None:
        if len(raw.shape) not in (3, 4):
            raise DataError(f"raw must be (c, y, x) or (c, z, y, x); got shape {raw.shape}")
        self._raw = raw
        self.shape: tuple[int, ...] = tuple(raw.shape[1:])
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self._threshold = self._find_threshold()

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.uint8]:
        """Return the part named by one slice per axis; 0 everywhere for a constant image."""
        grey = self._grey(index)
        if self._threshold is None:
            return np.zeros(grey.shape, np.uint8)
        return np.asarray(grey > self._threshold).view(np.uint8)

    def _grey(self, index: tuple[slice, ...]) -> NDArray[Any]:
        part = self._raw[(slice(0, self._raw.shape[0]), *index)]
        grey = np.asarray(part[0] if len(part) == 1 else part.mean(axis=0))
        return grey.view(np.uint8) if grey.dtype.kind == "b" else grey

    def _parts(self) -> Iterator[NDArray[Any]]:
        return (part for index in slabs(self.shape) if (part := self._grey(index)).size)

    def _find_threshold(self) -> Any:
        """Return Otsu's threshold, None for a constant image."""
        ends = []
        for part in self._parts():
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                raise DataError(
                    "raw has NaN or infinite values; Otsu's threshold needs finite ones"
                )
            ends += [part.min(), part.max()]
        if not ends or min(ends) == max(ends):
            return None
        low, high = min(ends), max(ends)
        if low.dtype.kind in "ui":
            centres = np.arange(int(low), int(high) + 1)
            numbers = (part.astype(np.int64).ravel() - int(low) for part in self._parts())
            counts = sum(np.bincount(number, minlength=len(centres)) for number in numbers)
        else:
            edges = np.histogram_bin_edges(np.array([low, high]), _BINS)
            centres = (edges[:-1] + edges[1:]) / 2
            counts = sum(np.histogram(p, _BINS, range=(low, high))[0] for p in self._parts())
        return _threshold_otsu(hist=(counts, centres))


def otsu_components(raw: NDArray[Any]) -> NDArray[np.int32]:
    """Segment bright objects by Otsu's threshold and connected components.

    Parameters
    ----------
    raw : ndarray, (c, [z,] y, x)
        As for :class:`OtsuForeground`.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels from 1, components touch by a face, an edge or a corner; 0 everywhere for a constant
        image.

    Raises
    ------
    DataError
        As :class:`OtsuForeground`.

    Examples
    --------
    >>> otsu_components(np.array([[[9, 9, 0, 8], [0, 0, 0, 9]]]))
    array([[1, 1, 0, 2],
           [0, 0, 0, 2]], dtype=int32)
    """
    bright = OtsuForeground(raw)
    return local_labels(bright[tuple(slice(0, n) for n in bright.shape)]).astype(np.int32)
