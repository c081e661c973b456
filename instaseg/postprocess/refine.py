"""Refinement: a list of operations on instances, each with its own value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import ge, lt

import fastremap
import numpy as np
from numpy.typing import NDArray

from instaseg.postprocess.channel import Channel, Labels
from instaseg.postprocess.config import Operation
from instaseg.postprocess.steps import clear_border, fill_holes, remove_by_size
from instaseg.regions.morphology import dilate_labels, erode_labels, reach

Morphology = Callable[[NDArray[np.int32], float, Sequence[float]], NDArray[np.int32]]


def refine(channel: Channel, operations: Sequence[Operation]) -> None:
    """Do operations one after the other.

    ``erode R`` takes from every instance the voxels that have something else within the radius: two
    that touch come apart on both sides. ``dilate R`` gives background within the radius to the
    nearest instance, of equally near ones that with the smaller label. Nothing lies beyond the
    image's border.

    Parameters
    ----------
    channel : Channel
        The instances.
    operations : sequence of Operation
        Radii are physical, sizes in voxels.
    """
    for one in operations:
        match one.name:
            case "dilate":
                _by_distance(channel, dilate_labels, one.value)
            case "erode":
                _by_distance(channel, erode_labels, one.value)
            case "fill_holes":
                fill_holes(channel)
            case "clear_border":
                clear_border(channel)
            case "remove_small":
                remove_by_size(channel, partial(ge, one.value))
            case "remove_large":
                remove_by_size(channel, partial(lt, one.value))


def _by_distance(channel: Channel, change: Morphology, radius: float) -> None:
    def changed(values: Labels) -> Labels:
        # numbers that fit into 32 bits, in the order of the labels, which decides ties
        labels = np.union1d(np.zeros(1, values.dtype), fastremap.unique(values))
        dense = np.searchsorted(labels, values).astype(np.int32)
        return labels[change(dense, radius, channel.spacing)]

    # One voxel more than the ball, so that a block sees whether something begins behind it.
    halo = [n + 1 for n in reach(radius, channel.spacing)]
    channel.change_with_halo(changed, halo)
