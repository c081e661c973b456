"""Predictions on disk: half-precision numbers, or probabilities as bytes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_LARGEST_BYTE = 255


def stored_dtype(activation: str, output_dtype: Literal["float16", "uint8"]) -> np.dtype[Any]:
    """Return the type of the array on disk of a head with some activation.

    Bytes hold probabilities only, so heads without activation (``"none"``) are always stored as
    float16.
    """
    return np.dtype("float16" if activation == "none" else output_dtype)


def quantise(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return float32 values as they are stored.

    Parameters
    ----------
    values : ndarray
        Of any shape; between 0 and 1 if `dtype` is uint8.
    dtype : dtype
        float16, or uint8: ``round(255 * p)``.

    Examples
    --------
    >>> quantise(np.float32([0, 0.5, 1]), np.dtype("uint8")).tolist()
    [0, 128, 255]
    """
    if dtype == np.uint8:
        values = np.rint(values * np.float32(_LARGEST_BYTE))
    stored: NDArray[Any] = values.astype(dtype)
    return stored


def dequantise(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return stored values as float32: bytes divided by 255, other numbers as they are.

    Examples
    --------
    >>> dequantise(np.uint8([0, 51, 255])).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    values = stored.astype(np.float32)
    return values / np.float32(_LARGEST_BYTE) if stored.dtype == np.uint8 else values
