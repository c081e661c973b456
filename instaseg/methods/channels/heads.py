"""Heads of channels: how the prediction of a turned image turns back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import ConfigError
from instaseg.geometry import Symmetry
from instaseg.methods.base import Head
from instaseg.methods.channels.registry import Channel
from instaseg.methods.channels.targets_rays import directions

_SAME_DIRECTION = 1e-6


@dataclass(frozen=True)
class ChannelHead(Head):
    """A head that predicts one channel.

    Parameters
    ----------
    channel : Channel
        What it predicts.
    """

    channel: Channel

    @property
    def is_vector(self) -> bool:
        """Whether the channels are parts of vectors."""
        return self.channel.turn in ("offset", "flow")

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return a prediction ``(channels, [z,] y, x)`` of an image as that of the turned image.

        Raises
        ------
        ConfigError
            If the turned prediction would be another channel's, or rays lie between the rays.
        """
        space = symmetry.apply(prediction)
        match self.channel.turn:
            case "offset":
                space = _turned_offset(self.channel, space, symmetry)
            case "flow":
                space = symmetry.turn_vectors(prediction)
            case "rays":
                space = space[_turned_rays(self.channel.channels, symmetry)]
            case "affinities":
                space = _turned_affinities(self.channel, space, symmetry)
            case "scalar":
                pass
        return space


def head_of(channel: Channel) -> ChannelHead:
    """Return the head that predicts a channel."""
    return ChannelHead(channel.name, channel.channels, channel.activation, channel.key, channel)


def _turned_offset(channel: Channel, space: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
    axis = len(symmetry.permutation) - 1 - "xyz".index(channel.name[-1])
    if symmetry.permutation[axis] != axis:
        raise ConfigError(
            f"[prediction] symmetries: expected 'flips' or 'none' because {channel.name} of an"
            " image with swapped axes is another channel's, found 'flips_and_rotations'; use"
            " 'flips', or the channel flow"
        )
    return -space if symmetry.flips[axis] else space


def _turned_vectors(vectors: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
    """Return vectors ``(n, ndim)`` of an image as they stand in the turned image."""
    return vectors[:, list(symmetry.permutation)] * np.where(symmetry.flips, -1, 1)


def _turned_rays(number: int, symmetry: Symmetry) -> NDArray[np.int64]:
    """Return the ray that each ray of the turned image was."""
    rays = directions(number, len(symmetry.permutation))
    near = _turned_vectors(rays, symmetry) @ rays.T > 1 - _SAME_DIRECTION
    if not near.any(axis=0).all():
        raise ConfigError(
            "[prediction] symmetries: expected rays that turn into rays, found"
            f" {number} in {rays.shape[1]}-D, whose mirror images lie between them; use symmetries"
            " = 'none'"
            + (", or a multiple of 4 as method.rays.number" if rays.shape[1] == 2 else "")
        )
    found: NDArray[np.int64] = near.argmax(axis=0)
    return found


def _turned_affinities(channel: Channel, space: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
    """Return affinities at the offsets of the turned image.

    The affinity at offset ``-o`` is the one at ``o`` of the voxel there; at the border, where
    there is none, the nearest one stands in.
    """
    turned = [tuple(one) for one in _turned_vectors(np.array(channel.offsets), symmetry).tolist()]
    found = np.empty_like(space)
    for number, offset in enumerate(channel.offsets):
        opposite = tuple(-o for o in offset)
        if offset in turned:
            found[number] = space[turned.index(offset)]
        elif opposite in turned:
            found[number] = _shifted(space[turned.index(opposite)], offset)
        else:
            raise ConfigError(
                "[prediction] symmetries: expected offsets that turn into offsets or their"
                f" opposites, found {list(offset)} in method.affinities.offsets, which none turns"
                " into; add what is missing, or use symmetries = 'flips' or 'none'"
            )
    return found


def _shifted(image: NDArray[Any], offset: tuple[int, ...]) -> NDArray[Any]:
    """Return at every voxel the value of the one at an offset, or of the last one before it."""
    found = image
    for axis, step in enumerate(offset):
        size = image.shape[axis]
        found = found.take(np.clip(np.arange(size) + step, 0, size - 1), axis=axis)
    return found
