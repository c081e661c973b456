"""Predictions and results of a sample as they lie on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.geometry import Coordinate
from instaseg.io.arrays import Reader, array_attributes, has_array, open_array
from instaseg.io.resampled import ResampledReader
from instaseg.io.samples import read_whole
from instaseg.methods.base import Head, Method
from instaseg.methods.build import MethodSpec

logger = logging.getLogger(__name__)

IMAGE_SHAPE = "image_shape"
"""Attribute of a prediction that was made at another size: the image's own shape."""


def image_shape(prediction: Path, heads: Sequence[Head]) -> Coordinate | None:
    """Return the shape of the image, where a prediction was made at another size; else None."""
    stored = array_attributes(prediction, heads[0].key).get(IMAGE_SHAPE)
    return None if stored is None else tuple(int(n) for n in stored)


def open_at_image_size(prediction: Path, key: str) -> Reader:
    """Open a predicted head ``(c, [z,] y, x)`` at the size of its image."""
    stored = open_array(prediction, key)
    shape = stored.attributes.get(IMAGE_SHAPE)
    return stored if shape is None else ResampledReader(stored, [int(n) for n in shape], "linear")


def method_at(spec: MethodSpec, prediction: Path) -> Method:
    """Return a method that knows the physical size of the voxels of a stored prediction."""
    method = spec.build()
    size = array_attributes(prediction, method.heads[0].key).get("resolution")
    return method if size is None else spec.at(size).build()


def read_prediction(path: Path, heads: Sequence[Head]) -> dict[str, NDArray[Any]]:
    """Return the predicted heads of a sample, by name, as they are stored."""
    return {head.name: read_whole(open_array(path, head.key)) for head in heads}


def stored_fingerprint(path: Path, key: str) -> str | None:
    """Return the fingerprint a finished array was written with, None if it is gone or damaged."""
    try:
        found = array_attributes(path, key).get("fingerprint") if has_array(path, key) else None
    except DataError as error:
        logger.warning("%s", error)
        return None
    return None if found is None else str(found)
