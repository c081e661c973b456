"""What every channel is: its length, activation, loss, polarity, range, context, and turning.

A :class:`Channel` describes one entry of ``[method] channels`` as the settings make it, so that
targets, losses and decoding read the same facts. How its target is computed stands in
:mod:`instaseg.methods.channels.targets`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from instaseg.errors import ConfigError
from instaseg.methods.base import Activation
from instaseg.methods.channels.config import ChannelsSettings, Loss, Polarity

Turn = Literal["scalar", "offset", "flow", "rays", "affinities"]
"""How a channel turns with the image: not at all, as one component of a vector, as a vector, as
values in directions, or as values of voxel pairs."""


@dataclass(frozen=True)
class Channel:
    """One channel, which may have several components.

    Parameters
    ----------
    name : str
        Also the name of its head, and of its array ``volumes/pred_<name>``.
    channels : int
        Components: 1, or more for flow, rays and affinities.
    loss : {"bce", "l1", "mse"}
        What compares prediction and target.
    activation : {"sigmoid", "none"}
        The same in the loss and at prediction.
    polarity : {"high_inside", "low_inside", "none"}
        Whether values are high or low deep inside an instance, seen from its border.
    low, high : float
        Smallest and largest target; infinite where there is none.
    background : float
        Target in the background, as far as the loss looks at it.
    learnt : {"everywhere", "foreground"}
        Where the loss counts; elsewhere predictions mean nothing.
    context : tuple of int
        Voxels around a crop, per axis, that its targets depend on.
    turn : str
        See :data:`Turn`.
    binary : bool
        Whether targets are 0 or 1 only.
    factor : float
        The loss compares prediction and target times this.
    offsets : tuple of tuple of int
        Of affinities: the other voxel of the pair, seen from the one that holds the value.
    """

    name: str
    channels: int = 1
    loss: Loss = "bce"
    activation: Activation = "sigmoid"
    polarity: Polarity = "none"
    low: float = 0.0
    high: float = 1.0
    background: float = 0.0
    learnt: Literal["everywhere", "foreground"] = "everywhere"
    context: tuple[int, ...] = ()
    turn: Turn = "scalar"
    binary: bool = False
    factor: float = 1.0
    offsets: tuple[tuple[int, ...], ...] = ()

    @property
    def key(self) -> str:
        """Array of its prediction."""
        return f"volumes/pred_{self.name}"


DEFAULT_RAYS = {2: 32, 3: 96}
"""Directions of rays in images and volumes."""


def channels_of(settings: ChannelsSettings, ndim: int) -> tuple[Channel, ...]:
    """Return the channels of a configuration, in its order.

    Parameters
    ----------
    settings : ChannelsSettings
        Table ``[method]``.
    ndim : {2, 3}
        Spatial axes.

    Raises
    ------
    ConfigError
        If a channel, an offset or the context does not fit the axes, or a loss its channel.
    """
    found = [describe(name, settings, ndim) for name in settings.channels]
    for number, loss in enumerate(settings.losses):
        if loss != "default":
            found[number] = with_loss(found[number], loss)
    return tuple(found)


def context_of(channels: Sequence[Channel]) -> tuple[int, ...]:
    """Return the voxels of labels that all channels together need around a crop."""
    return tuple(max(each) for each in zip(*(one.context for one in channels), strict=True))


def with_loss(channel: Channel, loss: Loss) -> Channel:
    """Return a channel with another loss, and the activation that goes with it.

    Raises
    ------
    ConfigError
        If cross entropy is asked for where targets are not between 0 and 1.
    """
    if loss == "bce":
        if channel.low < 0 or channel.high > 1:
            raise ConfigError(
                f'[method] losses: expected "l1" or "mse" for {channel.name}, found "bce", which'
                f" compares values between 0 and 1; those of {channel.name} lie between"
                f" {channel.low:g} and {channel.high:g}"
            )
        return replace(channel, loss=loss, activation="sigmoid")
    return replace(channel, loss=loss, activation="sigmoid" if channel.binary else "none")


def describe(name: str, settings: ChannelsSettings, ndim: int) -> Channel:
    """Return one channel as the settings make it, with its own loss.

    Raises
    ------
    ConfigError
        If it does not fit the number of axes.
    """
    far, here = far_context(settings, ndim), (0,) * ndim
    found: Channel
    match name:
        case "foreground":
            found = _binary(name, "high_inside", here)
        case "background":
            found = _binary(name, "low_inside", here, background=1.0)
        case "interior":
            found = _binary(name, "high_inside", contour_context(settings, ndim))
        case "contour":
            found = _binary(name, "low_inside", contour_context(settings, ndim))
        case "touching":
            near = (1,) * ndim if settings.touching.thickness is None else far
            found = _binary(name, "low_inside", near)
        case "centre":
            sharp = settings.centre.kind != "gauss"
            found = replace(_binary(name, "high_inside", far), binary=sharp)
        case "affinities":
            found = _affinities(settings, ndim)
        case "distance" | "signed_distance" | "ridge" | "centre_distance" | "neighbour_distance":
            found = _distance(name, settings, far)
        case _:
            found = _directed(name, settings, far)
    return found


def contour_context(settings: ChannelsSettings, ndim: int) -> tuple[int, ...]:
    """Return the voxels around a crop that its contours depend on."""
    if settings.contour.mode == "dense_legacy":
        return (2,) * ndim
    by_voxels = settings.contour.thickness is None or settings.contour.mode == "dense"
    return (1,) * ndim if by_voxels else far_context(settings, ndim)


def far_context(settings: ChannelsSettings, ndim: int) -> tuple[int, ...]:
    """Return the largest context, one number per axis."""
    given = settings.context
    if len(given) not in (1, ndim):
        raise ConfigError(
            f"[method] context: expected 1 or {ndim} numbers because data.ndim = {ndim}, found"
            f" {list(given)}; change it or data.ndim"
        )
    return given * ndim if len(given) == 1 else given


def _binary(
    name: str, polarity: Polarity, context: tuple[int, ...], *, background: float = 0.0
) -> Channel:
    return Channel(name, polarity=polarity, context=context, background=background, binary=True)


def _distance(name: str, settings: ChannelsSettings, far: tuple[int, ...]) -> Channel:
    """Return a channel of distances: real numbers, one component."""
    each = Channel(name, loss="l1", activation="none", context=far)
    match name:
        case "distance":
            own = settings.distance
            high = 1.0 if own.scale == "instance" else math.inf
            return replace(each, polarity=own.polarity, high=high, learnt=own.learnt)
        case "signed_distance":
            return replace(each, loss="mse", polarity="high_inside", low=-1.0, background=-1.0)
        case "ridge":
            return replace(each, polarity="low_inside")
        case "centre_distance":
            high = 1.0 if settings.centre_distance.scale == "instance" else math.inf
            return replace(each, polarity="low_inside", high=high, learnt="foreground")
        case _:
            return replace(each, polarity="low_inside", learnt="foreground")


def _directed(name: str, settings: ChannelsSettings, far: tuple[int, ...]) -> Channel:
    """Return a channel whose values have a direction."""
    ndim = len(far)
    each = Channel(name, loss="l1", activation="none", context=far)
    match name:
        case "flow":
            return replace(
                each, channels=ndim, loss="mse", low=-1.0, turn="flow", factor=settings.flow.factor
            )
        case "rays":
            number = settings.rays.number or DEFAULT_RAYS[ndim]
            return replace(each, channels=number, high=math.inf, learnt="foreground", turn="rays")
        case _:
            if name == "offset_z" and ndim == 2:
                raise ConfigError(
                    "[method] channels: expected channels of images, found offset_z, which only"
                    " volumes have (data.ndim = 2); remove it"
                )
            most = 1.0 if settings.offset.scale == "instance" else math.inf
            return replace(each, low=-most, high=most, turn="offset")


def _affinities(settings: ChannelsSettings, ndim: int) -> Channel:
    offsets = settings.affinities.offsets or nearest_offsets(ndim)
    for offset in offsets:
        if len(offset) != ndim or not any(offset):
            raise ConfigError(
                f"[method.affinities] offsets: expected lists of {ndim} whole numbers, not all 0,"
                f" because data.ndim = {ndim}, found {list(offset)}"
            )
    if len(set(offsets)) != len(offsets):
        raise ConfigError(
            "[method.affinities] offsets: expected every offset once, found one twice in"
            f" {[list(one) for one in offsets]}; remove it"
        )
    widened = (0,) * (ndim - 2) + (settings.affinities.widen_borders,) * 2
    reach = (max(abs(one[axis]) for one in offsets) + widened[axis] for axis in range(ndim))
    each = _binary("affinities", "none", tuple(reach))
    return replace(each, channels=len(offsets), turn="affinities", offsets=offsets)


def nearest_offsets(ndim: int) -> tuple[tuple[int, ...], ...]:
    """Return the offsets to the voxel before along every axis.

    Examples
    --------
    >>> nearest_offsets(2)
    ((-1, 0), (0, -1))
    """
    return tuple(tuple(-int(a == axis) for a in range(ndim)) for axis in range(ndim))
