"""What a prediction says of synapses: probabilities of sites, and vectors, box by box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, Coordinate
from instaseg.io.quantise import dequantise
from instaseg.io.stored_heads import StoredHeads
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
    heads : StoredHeads
        What is read.
    """

    heads: StoredHeads

    @property
    def shape(self) -> Coordinate:
        """The volume in voxels."""
        return self.heads.shape

    def probability(self, site: str, box: Box) -> NDArray[np.float32]:
        """Return the probability of a site in a box."""
        found: NDArray[np.float32] = self._read(site, box)[0]
        return found

    def vectors(self, box: Box) -> NDArray[np.float32]:
        """Return the vectors in a box."""
        return self._read(VECTORS, box)

    def _read(self, name: str, box: Box) -> NDArray[np.float32]:
        return dequantise(self.heads.component(name, box))
