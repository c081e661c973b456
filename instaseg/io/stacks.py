"""Folders of 2-D image files that are the sections of a volume."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io.arrays import NO_ATTRIBUTES
from instaseg.io.image_files import open_image
from instaseg.io.pairing import image_files


class StackReader:
    """The image files of a folder as one array ``(z, ...)``, in the order of the numbers in names.

    Parameters
    ----------
    folder : Path
        TIFF and PNG files of one shape and type; read one by one.

    Raises
    ------
    DataError
        If there are none, or a file has another shape or type than the first.
    """

    attributes: Mapping[str, Any] = NO_ATTRIBUTES

    def __init__(self, folder: Path) -> None:
        self._files = sorted(image_files(folder), key=_natural)
        if not self._files:
            raise DataError(f"{folder}: expected the sections of a volume, found no image files")
        first = open_image(self._files[0])
        for file in self._files[1:]:
            other = open_image(file)
            if (other.shape, other.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"{file}: expected shape {first.shape} and type {first.dtype} as of"
                    f" {self._files[0].name}, found {other.shape} and {other.dtype}; sections of a"
                    " volume are alike (data.stack = 'z')"
                )
        self.shape: tuple[int, ...] = (len(self._files), *first.shape)
        self.dtype: np.dtype[Any] = first.dtype
        self.chunks: tuple[int, ...] | None = (1, *first.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        chosen = self._files[index[0]]
        if not chosen:
            return np.zeros((0, *self.shape[1:]), self.dtype)[(slice(None), *index[1:])]
        return np.stack([open_image(file)[index[1:]] for file in chosen])


def _natural(file: Path) -> list[tuple[int, str]]:
    """Return what sorts ``a2`` before ``a10``."""
    parts = re.split(r"(\d+)", file.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
