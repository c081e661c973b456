"""Predicted heads on disk, read box by box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, Coordinate
from instaseg.io.arrays import open_array


@dataclass(frozen=True)
class StoredHeads:
    """The predicted heads of a sample on disk.

    Parameters
    ----------
    path : Path
        Zarr folder of the prediction.
    keys : mapping of str to str
        Array of each head, by name.
    """

    path: Path
    keys: Mapping[str, str]

    @property
    def shape(self) -> Coordinate:
        """The volume ``([z,] y, x)`` in voxels."""
        return tuple(open_array(self.path, next(iter(self.keys.values()))).shape[1:])

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the type in which a head is stored."""
        return open_array(self.path, self.keys[name]).dtype

    def read(self, box: Box) -> dict[str, NDArray[Any]]:
        """Return all heads in a box inside the volume, ``(components, [z,] y, x)`` as stored."""
        return {name: self.component(name, box) for name in self.keys}

    def component(self, name: str, box: Box, which: slice | None = None) -> NDArray[Any]:
        """Return components of one head in a box inside the volume, all of them by default."""
        reader = open_array(self.path, self.keys[name])
        return reader[(which or slice(0, reader.shape[0]), *box.slices)]
