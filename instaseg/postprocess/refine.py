"""Refinement: a list of operations on instances, each with its own value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import ge, lt

import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Box, Coordinate
from instaseg.postprocess.channel import Channel, Labels
from instaseg.postprocess.config import Operation
from instaseg.postprocess.steps import Change, clear_border, remove_by_size
from instaseg.regions.morphology import dilate_labels, erode_labels, reach

Morphology = Callable[[NDArray[np.int32], float, Sequence[float]], NDArray[np.int32]]
_BY_DISTANCE: dict[str, Morphology] = {"dilate": dilate_labels, "erode": erode_labels}


@dataclass(frozen=True)
class ByDistance:
    """Instances grow or shrink by a radius.

    ``erode R`` takes from every instance the voxels that have something else within the radius: two
    that touch come apart on both sides. ``dilate R`` gives background within the radius to the
    nearest instance, of equally near ones that with the smaller label. Nothing lies beyond the
    image's border.

    Parameters
    ----------
    name : {"dilate", "erode"}
        What is done.
    radius : float
        Physical.
    spacing : tuple of float
        Physical size of a voxel per axis.
    """

    name: str
    radius: float
    spacing: tuple[float, ...]

    @property
    def halo(self) -> Coordinate:
        """One voxel more than the ball, so that a block sees whether something begins behind it."""
        return tuple(n + 1 for n in reach(self.radius, self.spacing))

    def __call__(self, values: Labels, box: Box) -> Labels:
        """Return the labels after the operation."""
        del box
        # numbers that fit into 32 bits, in the order of the labels, which decides ties
        labels = np.union1d(np.zeros(1, values.dtype), fastremap.unique(values))
        dense = np.searchsorted(labels, values).astype(np.int32)
        changed: Labels = labels[_BY_DISTANCE[self.name](dense, self.radius, self.spacing)]
        return changed


def change_by(operation: Operation, channel: Channel) -> Change:
    """Return what an operation, other than the filling of holes, makes of every block.

    Parameters
    ----------
    operation : Operation
        Radii are physical, sizes in voxels.
    channel : Channel
        The instances.
    """
    match operation.name:
        case "dilate" | "erode":
            return ByDistance(operation.name, operation.value, channel.spacing)
        case "clear_border":
            return clear_border(channel)
        case "remove_small":
            return remove_by_size(channel, partial(ge, operation.value))
        case _:
            return remove_by_size(channel, partial(lt, operation.value))
