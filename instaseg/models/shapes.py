"""Shape arithmetic of the U-Net by formula; loads no torch.

One axis of a network with two levels, `valid` padding; each convolution pass removes ``r`` voxels
on each side, the numbers are voxels of the level::

      input   |-----------------------------------------|
      level 0 |r|-------------------------------------|r|     skip, cropped
      level 1     |r|---------------------------|r|           every f voxels one
      level 0         |r|-------------------|r|
      output            |-------------------|
              |  halo   |    output         |   halo    |

With `same` padding the output is as large as the input, and its outer ``halo`` voxels have seen the
zeros around it; tiles are therefore cut to the inside, and the same picture holds.

Promise: take an output box that is a valid input box (see :func:`smallest_input_shape`) less
:func:`halo` on each side, and that begins at a multiple of :func:`step` from a fixed origin. It
depends on nothing but that input box, so that its values are the same in any larger input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instaseg.errors import ConfigError

if TYPE_CHECKING:
    from instaseg.models.config import ModelSettings


@dataclass(frozen=True)
class _Axis:
    """What matters for the sizes along one axis.

    Parameters
    ----------
    factors : tuple of int
        Reduction of each level, from the top.
    border : int
        Voxels that one convolution pass needs on each side.
    smoothing : tuple of int
        Voxels on each side, at each level, that interpolation in a `valid` network spoils.
    padding : {"valid", "same"}
        Kind of padding.
    interpolation : {"nearest", "linear"}
        Kind of upsampling; transposed convolution reaches as far as "nearest".
    """

    factors: tuple[int, ...]
    border: int
    smoothing: tuple[int, ...]
    padding: str
    interpolation: str


def _axes(settings: ModelSettings) -> list[_Axis]:
    linear = settings.upsampling == "resize_conv" and settings.interpolation == "linear"
    return [
        _Axis(
            factors=tuple(level[axis] for level in settings.factors),
            border=settings.num_repetitions * (settings.kernel[axis] // 2),
            smoothing=tuple(smoothing(settings, level[axis]) for level in settings.factors),
            padding=settings.padding,
            interpolation="linear" if linear else "nearest",
        )
        for axis in range(settings.ndim)
    ]


def smoothing(settings: ModelSettings, factor: int) -> int:
    """Return the voxels on each side that upsampling by `factor` gets wrong and `valid` crops.

    Linear interpolation repeats the outermost voxel beyond the border, which differs from what a
    larger input shows there.
    """
    linear = settings.upsampling == "resize_conv" and settings.interpolation == "linear"
    return factor // 2 if linear and settings.padding == "valid" else 0


def step(settings: ModelSettings) -> tuple[int, ...]:
    """Return the voxels per axis by which an input may shift without changing what is computed.

    It is the product of the downsampling factors.
    """
    return tuple(math.prod(axis.factors) for axis in _axes(settings))


def halo(settings: ModelSettings) -> tuple[int, ...]:
    """Return the voxels of input needed on each side of an output box, per axis.

    For `valid` padding this is what the output lacks on each side: with ``r`` for the border of a
    convolution pass and ``f`` for the factor of a level, ``h = r + f * h_below + r``, beginning
    with ``h = r`` at the lowest level. For `same` padding it is how far the outermost voxels of a
    box of whole steps see, rounded up to whole steps.
    """
    return tuple(_axis_halo(axis) for axis in _axes(settings))


def _axis_halo(axis: _Axis) -> int:
    if axis.padding == "same":
        side = math.prod(axis.factors)
        return math.ceil(-_leftmost(axis, 0, 0) / side) * side
    reach = axis.border
    for factor, spoiled in zip(reversed(axis.factors), reversed(axis.smoothing), strict=True):
        reach = axis.border + factor * reach + spoiled + axis.border
    return reach


def _leftmost(axis: _Axis, level: int, begin: int) -> int:
    """Return the first input voxel of a level that its output voxel `begin` depends on."""
    begin -= axis.border
    if level == len(axis.factors):
        return begin
    factor = axis.factors[level]
    if axis.interpolation == "linear":
        # Voxel y lies at (y + 1/2) / f - 1/2 of the level below, between two of its voxels.
        below = (2 * begin + 1 - factor) // (2 * factor)
    else:
        below = begin // factor
    return min(begin, _leftmost(axis, level + 1, below) * factor) - axis.border


def _axis_output(axis: _Axis, size: int) -> int | None:
    """Return the output size for an input size, None where the levels do not fit."""
    lost = 0 if axis.padding == "same" else 2 * axis.border
    for factor in axis.factors:
        size -= lost
        if size <= 0 or size % factor:
            return None
        size //= factor
    size -= lost
    for factor, spoiled in zip(reversed(axis.factors), reversed(axis.smoothing), strict=True):
        size = size * factor - 2 * spoiled - lost
    return size if size > 0 else None


def _axis_smallest(axis: _Axis) -> int:
    """Return the smallest input size that gives an output."""
    # Every further step of input is as valid, so the search is over one period.
    size = 1 if axis.padding == "same" else 2 * _axis_halo(axis) + 1
    while _axis_output(axis, size) is None:
        size += 1
    return size


def smallest_input_shape(settings: ModelSettings) -> tuple[int, ...]:
    """Return the smallest input shape that gives an output, in voxels.

    The valid input sizes of an axis are this one and all that are larger by whole steps.
    """
    return tuple(_axis_smallest(axis) for axis in _axes(settings))


def input_shape_at_least(settings: ModelSettings, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest valid input shape that is nowhere smaller than `shape`, in voxels."""
    return tuple(
        least + max(0, math.ceil((size - least) / side)) * side
        for size, least, side in zip(
            shape, smallest_input_shape(settings), step(settings), strict=True
        )
    )


def input_shape_for_output(settings: ModelSettings, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest valid input shape whose output free of borders holds `shape`, in voxels.

    Free of borders is what lies :func:`halo` voxels inside the input, for both kinds of padding.
    """
    wanted = [size + 2 * reach for size, reach in zip(shape, halo(settings), strict=True)]
    return input_shape_at_least(settings, wanted)


def nearest_input_shapes(
    settings: ModelSettings, shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the valid input shapes next to `shape`, in voxels: not larger, and not smaller.

    Where no smaller one is valid, both are the smallest there is.
    """
    above = input_shape_at_least(settings, shape)
    below = tuple(
        max(least, up - side if up > size else up)
        for size, least, side, up in zip(
            shape, smallest_input_shape(settings), step(settings), above, strict=True
        )
    )
    return below, above


def shape_problem(settings: ModelSettings, shape: Sequence[int]) -> str | None:
    """Return what is wrong with an input shape and which ones fit, or None if it fits."""
    axes = _axes(settings)
    if len(shape) != len(axes):
        return f"must have {len(axes)} axes; got {list(shape)}"
    if all(_axis_output(axis, size) for axis, size in zip(axes, shape, strict=True)):
        return None
    below, above = nearest_input_shapes(settings, shape)
    nearest = f"{list(below)} or {list(above)}" if below != above else f"{list(above)}"
    rule = ", ".join(
        f"{least} + {side} n"
        for least, side in zip(smallest_input_shape(settings), step(settings), strict=True)
    )
    return (
        f"must fit the levels of the network ({rule} voxels); got {list(shape)}. The nearest that"
        f" fit: {nearest}"
    )


def check_input_shape(shape: Sequence[int], settings: ModelSettings, name: str) -> None:
    """Check that the levels of the network fit an input shape.

    Parameters
    ----------
    shape : sequence of int
        In voxels.
    settings : ModelSettings
        The network.
    name : str
        What the message calls the shape, for example a key of the configuration.

    Raises
    ------
    ConfigError
        If they do not; names the nearest shapes that fit.
    """
    problem = shape_problem(settings, shape)
    if problem is not None:
        raise ConfigError(f"{name} {problem}")


def output_shape(settings: ModelSettings, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the output shape for an input shape, in voxels.

    Raises
    ------
    ConfigError
        If the levels do not fit the shape; names the nearest shapes that do.
    """
    check_input_shape(shape, settings, "input shape")
    sizes = (_axis_output(axis, size) for axis, size in zip(_axes(settings), shape, strict=True))
    return tuple(size for size in sizes if size is not None)
