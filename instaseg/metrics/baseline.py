"""The simplest segmentation there is, as a yardstick beside the method's score."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from instaseg.errors import DataError

# scikit-image has no type annotations
_threshold_otsu: Any = threshold_otsu


def otsu_components(raw: NDArray[Any]) -> NDArray[np.int32]:
    """Segment bright objects by Otsu's threshold and connected components.

    Parameters
    ----------
    raw : ndarray, (c, [z,] y, x)
        Image of any numeric type, objects brighter than background; several channels are averaged.
        Not changed.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels from 1, components touch by a face, an edge or a corner; 0 everywhere for a constant
        image.

    Raises
    ------
    DataError
        For another number of axes, and for NaN or infinite values.

    References
    ----------
    .. [1] Otsu, A threshold selection method from gray-level histograms, 1979,
       https://doi.org/10.1109/TSMC.1979.4310076

    Examples
    --------
    >>> otsu_components(np.array([[[9, 9, 0, 8], [0, 0, 0, 9]]]))
    array([[1, 1, 0, 2],
           [0, 0, 0, 2]], dtype=int32)
    """
    if raw.ndim not in (3, 4):
        raise DataError(f"raw must be (c, y, x) or (c, z, y, x); got shape {raw.shape}")
    image = raw[0] if len(raw) == 1 else raw.mean(axis=0)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise DataError("raw has NaN or infinite values; Otsu's threshold needs finite ones")
    if image.size == 0 or image.min() == image.max():
        return np.zeros(image.shape, np.int32)
    foreground = image > _threshold_otsu(image.reshape(1, -1))
    # As numbers: for booleans, cc3d 4.1 errs in images of even height and odd width.
    labels = cc3d.connected_components(
        foreground.view(np.uint8), connectivity=8 if image.ndim == 2 else 26
    )
    return np.asarray(labels, np.int32)
