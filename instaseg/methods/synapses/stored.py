"""What a prediction says of synapses: probabilities of sites, and vectors, box by box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, Coordinate
from instaseg.inference.quantise import dequantise
from instaseg.io.arrays import open_array
from instaseg.methods.synapses.blocks import VECTORS


@dataclass(frozen=True)
class HeldPoints:
    """A prediction in memory.

    Parameters
    ----------
    prediction : mapping of str to ndarray
        Heads ``(channels, [z,] y, x)`` by name, as they are stored.
    """

    prediction: Mapping[str, NDArray[Any]]

    @property
    def shape(self) -> Coordinate:
        """The volume in voxels."""
        return next(iter(self.prediction.values())).shape[1:]

    def probability(self, site: str, box: Box) -> NDArray[np.float32]:
        """Return the probability of a site in a box."""
        return dequantise(self.prediction[site][0][box.slices])

    def vectors(self, box: Box) -> NDArray[np.float32]:
        """Return the vectors in a box."""
        return dequantise(self.prediction[VECTORS][(slice(None), *box.slices)])


@dataclass(frozen=True)
class StoredPoints:
    """A prediction on disk.

    Parameters
    ----------
    path : Path
        Zarr folder.
    keys : mapping of str to str
        Array of each head, by name.
    """

    path: Path
    keys: Mapping[str, str]

    @property
    def shape(self) -> Coordinate:
        """The volume in voxels."""
        return tuple(open_array(self.path, next(iter(self.keys.values()))).shape[1:])

    def probability(self, site: str, box: Box) -> NDArray[np.float32]:
        """Return the probability of a site in a box."""
        found: NDArray[np.float32] = self._read(site, box)[0]
        return found

    def vectors(self, box: Box) -> NDArray[np.float32]:
        """Return the vectors in a box."""
        return self._read(VECTORS, box)

    def _read(self, name: str, box: Box) -> NDArray[np.float32]:
        reader = open_array(self.path, self.keys[name])
        return dequantise(reader[(slice(0, reader.shape[0]), *box.slices)])
