"""What a stored prediction says: foreground, overlap, and patches, decoded where they are codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, bounding_box
from instaseg.io.quantise import dequantise, quantise
from instaseg.io.stored_heads import StoredHeads
from instaseg.methods.base import Decode
from instaseg.methods.patches.offsets import lift


def foreground_probability(prediction: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """Return the probability ``([z,] y, x)`` of any instance; None without a head that says so."""
    if "fgbg" in prediction:
        return dequantise(prediction["fgbg"][0])
    if "numinst" in prediction:
        return np.asarray(1 - dequantise(prediction["numinst"][0]), dtype=np.float32)
    return None


def overlap_probability(prediction: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """Return the probability ``([z,] y, x)`` of more than one instance; None if never counted."""
    if "numinst" not in prediction:
        return None
    return np.asarray(dequantise(prediction["numinst"][2:]).sum(axis=0), dtype=np.float32)


def decode_patches(
    codes: NDArray[Any], centres: NDArray[np.bool_], decode: Decode, *, patch_size: int
) -> NDArray[Any]:
    """Return the patches at some voxels, in the type the codes are stored in.

    Parameters
    ----------
    codes : (units, [z,] y, x) float16 or uint8
        As stored.
    centres : ([z,] y, x) bool
        Voxels whose patch is wanted.
    decode : callable
        The decoder.
    patch_size : int
        Voxels of a patch, `K`.

    Returns
    -------
    (K, [z,] y, x) float16 or uint8
        0 where no patch was wanted.
    """
    patches = np.zeros((patch_size, *centres.shape), codes.dtype)
    if centres.any():
        patches[:, centres] = quantise(decode(codes[:, centres]), codes.dtype)
    return patches


@dataclass(frozen=True)
class StoredPatches:
    """The predicted heads of a sample on disk, read box by box, as assembly in blocks reads them.

    Parameters
    ----------
    heads : StoredHeads
        What is read.
    ndim : {2, 3}
        Spatial axes.
    patch_size : int
        Voxels of a patch.
    decode : callable, optional
        Decoder of the head ``code``; must be picklable.
    """

    heads: StoredHeads
    ndim: int
    patch_size: int
    decode: Decode | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume ``(z, y, x)`` in voxels, margin included; z is 1 for 2-D data."""
        z, y, x = (1,) * (3 - self.ndim) + self.heads.shape
        return z, y, x

    def foreground(self, box: Box) -> NDArray[Any]:
        """Return the foreground's probability in a box."""
        names = [name for name in ("fgbg", "numinst") if name in self.heads.keys]
        found = foreground_probability({name: self._read(name, box) for name in names})
        if found is None:
            centre = slice(self.patch_size // 2, self.patch_size // 2 + 1)
            found = dequantise(self._read("affs", box, centre)[0])
        return found

    def overlap(self, box: Box) -> NDArray[np.float32] | None:
        """Return the probability of overlap in a box; None where it is not predicted."""
        if "numinst" not in self.heads.keys:
            return None
        return overlap_probability({"numinst": self._read("numinst", box)})

    def affinities(self, box: Box, centres: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the patches in a box; those at `centres` are read, or decoded, the others 0."""
        name = "affs" if "affs" in self.heads.keys else "code"
        # fresh zeros take no memory before they are written to
        patches = np.zeros((self.patch_size, *box.shape), self.heads.dtype(name))
        if not centres.any():
            return patches
        part = bounding_box(np.nonzero(centres))
        stored = self._read(name, part.shift(box.begin))
        if name == "code":
            assert self.decode is not None
            inside = centres[part.slices]
            stored = decode_patches(stored, inside, self.decode, patch_size=self.patch_size)
        patches[(slice(None), *part.slices)] = stored
        return patches

    def _read(self, name: str, box: Box, channels: slice | None = None) -> NDArray[Any]:
        """Return a part of a head as ``(channels, z, y, x)``."""
        flat = 3 - self.ndim
        inner = Box(box.begin[flat:], box.end[flat:])
        return lift(self.heads.component(name, inner, channels), self.ndim)
