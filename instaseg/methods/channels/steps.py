"""The steps from channels to seeds, mask and surface: arrays in, arrays out, nothing global.

Each step needs the voxels within :func:`halo` only, so a part of an image that is read with that
much around it gives what the whole gives. What concerns the whole lies between them: thresholds
from counted values, connected components, flooding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Coordinate
from instaseg.methods.channels.config import LabelSettings, Step
from instaseg.methods.channels.presets import AREAS, Plan, Term
from instaseg.methods.channels.registry import Channel
from instaseg.regions import morphology
from instaseg.regions.distance import inclusive
from instaseg.regions.flood import step_lengths
from instaseg.regions.thresholds import ValueCounts, otsu

Values = Mapping[str, NDArray[np.float32]]
"""Channels ``([z,] y, x)`` by name."""

_TRUNCATE = 3.0
"""Standard deviations at which a bell curve ends."""
_MORPHOLOGY = {
    "dilate": morphology.dilate,
    "erode": morphology.erode,
    "open": morphology.opening,
    "close": morphology.closing,
}
_BALLS: Mapping[Step, int] = {"dilate": 1, "erode": 1, "open": 2, "close": 2}
_NEAR_CONTOURS = 2.0
"""Voxels around interior and contours that are no seed of the background."""
_HALF_JUMP = 4.0
"""Voxels that offsets in physical units must jump to count 1/2."""


def channels_of_plan(plan: Plan) -> tuple[str, ...]:
    """Return the names of the maps that a plan looks at, each once."""
    terms = (*plan.seeds, *plan.mask, *plan.also, *plan.sure)
    ridge = () if plan.background_seed is None else (plan.background_seed.channel,)
    named = (*(term.channel for term in terms), *(name for name, _ in plan.flooded), *ridge)
    return tuple(dict.fromkeys(named))


def with_numbers(
    plan: Plan, counts: Mapping[str, ValueCounts], channels: Mapping[str, Channel]
) -> Plan:
    """Return a plan in which all thresholds are numbers.

    Parameters
    ----------
    plan : Plan
        Its thresholds may be words.
    counts : mapping of str to ValueCounts
        How often values occur in the whole image, of channels whose thresholds are words.
    channels : mapping of str to Channel
        The range of each channel; maps made of channels lie between 0 and 1.
    """

    def number(term: Term) -> Term:
        if not isinstance(term.threshold, str):
            return term
        counted = counts[term.channel]
        found = otsu(counted)
        if term.threshold == "otsu_half":
            found = (found + _end(term, channels, counted)) / 2
        elif term.side == "below":
            # the threshold is the last of the low values, which are inside
            found = float(np.nextafter(np.float32(found), np.float32(np.inf)))
        return replace(term, threshold=found)

    return replace(
        plan,
        seeds=tuple(map(number, plan.seeds)),
        mask=tuple(map(number, plan.mask)),
        sure=tuple(map(number, plan.sure)),
        background_seed=plan.background_seed and number(plan.background_seed),
    )


def _end(term: Term, channels: Mapping[str, Channel], counted: ValueCounts) -> float:
    """Return the value that is least inside, of the channel or, if it has none, of the image."""
    channel = channels.get(term.channel)
    low, high = (0.0, 1.0) if channel is None else (channel.low, channel.high)
    end, seen = (low, counted.values[0]) if term.side == "above" else (high, counted.values[-1])
    return end if math.isfinite(end) else float(seen)


def needs_counts(plan: Plan) -> tuple[str, ...]:
    """Return the names of the maps whose values have to be counted."""
    terms = (*plan.seeds, *plan.mask, *plan.sure, plan.background_seed)
    named = [term.channel for term in terms if term and isinstance(term.threshold, str)]
    return tuple(dict.fromkeys(named))


def jumps(
    offsets: Sequence[NDArray[np.float32]], scale: str, spacing: Sequence[float]
) -> NDArray[np.float32]:
    """Return where offsets from the centre jump: 0 inside instances, up to 1 between them.

    Inside an instance an offset grows along its own axis and stays the same along the others;
    where the next instance begins, it falls back. This is HoVer-Net's idea (S. Graham et al.,
    Medical Image Analysis 58, 2019, https://doi.org/10.1016/j.media.2019.101563), with the change
    of the whole vector from the voxel before to the voxel behind, in place of Sobel filters of
    single components that are scaled by the image's extremes.

    Parameters
    ----------
    offsets : sequence of ndarray of float32, ([z,] y, x)
        One for each axis.
    scale : {"instance", "physical"}
        Their unit: where it is the instance, half its extent counts 1; else a jump of four voxels
        counts 1/2.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
    """
    largest = np.zeros(offsets[0].shape, np.float32)
    for axis in range(largest.ndim):
        size: int = largest.shape[axis]
        index = np.arange(size)
        before, behind = np.maximum(index - 1, 0), np.minimum(index + 1, size - 1)
        squared = np.zeros_like(largest)
        for own, values in enumerate(offsets):
            change = values.take(before, axis) - values.take(behind, axis)
            squared += (np.maximum(change, 0) if own == axis else change) ** 2
        np.maximum(largest, squared, out=largest)
    jump = np.sqrt(largest)
    if scale == "instance":
        return np.minimum(jump, 1)
    return np.asarray(jump / (jump + np.float32(_HALF_JUMP * min(spacing))), dtype=np.float32)


def holds(values: Values, term: Term) -> NDArray[np.bool_]:
    """Return where a channel is on the inner side of its threshold, which is a number."""
    assert not isinstance(term.threshold, str)
    threshold, found = np.float32(term.threshold), values[term.channel]
    return np.asarray(found > threshold if term.side == "above" else found < threshold, dtype=bool)


def seed_mask(
    values: Values,
    plan: Plan,
    settings: LabelSettings,
    mask: NDArray[np.bool_] | None,
    spacing: Sequence[float],
) -> NDArray[np.bool_]:
    """Return the voxels of the mask that are seeds, not told apart yet.

    Parameters
    ----------
    values : mapping of str to ndarray
        The channels of the plan.
    plan : Plan
        With numbers as thresholds.
    settings : LabelSettings
        Smoothing, peaks, morphology.
    mask : ndarray of bool, ([z,] y, x), optional
        What :func:`growth_mask` gives.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    """
    smooth = {
        term.channel: smoothed(values[term.channel], settings.seed_smoothing, spacing)
        for term in plan.seeds
    }
    found = _all(smooth, plan.seeds)
    if settings.seed_peaks > 0:
        depth = -surface(values, plan, mask, spacing)
        found &= local_peaks(depth, settings.seed_peaks, spacing)
    found = transformed(found, settings.seed_steps, settings.seed_radii, spacing)
    return found if mask is None else found & mask


def growth_mask(
    values: Values, plan: Plan, settings: LabelSettings, spacing: Sequence[float]
) -> NDArray[np.bool_] | None:
    """Return the voxels that instances may have; None if these are all.

    Parameters
    ----------
    values : mapping of str to ndarray
        The channels of the plan.
    plan : Plan
        With numbers as thresholds.
    settings : LabelSettings
        Morphology.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    """
    if not plan.mask:
        return None
    found = _all(values, plan.mask)
    for term in plan.also:
        found |= holds(values, term)
    found = widened(found, plan.growth_voxels)
    found = morphology.dilate(found, plan.growth, spacing)
    return transformed(found, settings.mask_steps, settings.mask_radii, spacing)


def widened(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Return a mask grown by `count` steps from voxel to voxel across faces."""
    for _ in range(count):
        grown = mask.copy()
        for axis in range(mask.ndim):
            along = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
            along[0][1:] |= along[1][:-1]
            along[0][:-1] |= along[1][1:]
        mask = grown
    return mask


def sure_foreground(values: Values, plan: Plan) -> NDArray[np.bool_] | None:
    """Return the voxels that may be an instance without a seed; None if all of the mask may."""
    return _all(values, plan.sure) if plan.sure else None


def surface(
    values: Values, plan: Plan, mask: NDArray[np.bool_] | None, spacing: Sequence[float]
) -> NDArray[np.float32]:
    """Return the map that is flooded, low inside instances.

    Parameters
    ----------
    values, plan, spacing
        As for :func:`seed_mask`.
    mask : ndarray of bool, ([z,] y, x), optional
        What :func:`growth_mask` gives.
    """
    if not plan.flooded:
        return np.zeros(next(iter(values.values())).shape, np.float32)
    (first, sign), *others = plan.flooded
    total = values[first] if sign > 0 else -values[first]
    for name, sign in others:
        total = total + values[name] if sign > 0 else total - values[name]
    if mask is None or plan.smooth == "everywhere":
        return smoothed(total, plan.smoothing, spacing)
    share = smoothed(mask.astype(np.float32), plan.smoothing, spacing)
    inside = smoothed(np.where(mask, total, np.float32(0)), plan.smoothing, spacing)
    return np.divide(inside, share, out=np.zeros_like(inside), where=mask)


def flood_lengths(plan: Plan, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return how long a step along each axis is where the surface is flooded.

    Of affinities all steps are alike: what is weak there is the outermost layer of instances, one
    voxel along every axis, and each voxel of it goes to the voxel behind it.
    """
    return (1,) * len(spacing) if plan.decoder == "affinities" else step_lengths(tuple(spacing))


def background_far(
    values: Values, plan: Plan, settings: LabelSettings, spacing: Sequence[float]
) -> NDArray[np.bool_]:
    """Return the voxels that are far from interior and contours, which seed the background.

    Parameters
    ----------
    values, plan, settings, spacing
        As for :func:`seed_mask`.
    """
    near = np.zeros(next(iter(values.values())).shape, bool)
    for term in plan.seeds:
        if term.channel in AREAS:
            near |= holds(values, term)
        elif term.channel != "ridge":
            near |= ~holds(values, term)
    given = settings.background_radius
    if given is None:  # contours are as wide in voxels along every axis
        return ~morphology.dilate(near, _NEAR_CONTOURS, (1.0,) * len(spacing))
    return ~morphology.dilate(near, given, spacing)


def are_outside(
    outer: NDArray[np.bool_], sizes: NDArray[np.integer], settings: LabelSettings, voxel: float
) -> NDArray[np.bool_]:
    """Return which low regions are background, as far as their place or size tells.

    Parameters
    ----------
    outer : ndarray of bool, (n,)
        Whether a region has a voxel at the border of the whole.
    sizes : ndarray of int, (n,)
        Voxels of each region.
    settings : LabelSettings
        Which seeds are background.
    voxel : float
        Area or volume of a voxel, in physical units.
    """
    outside = np.zeros(len(sizes), bool)
    if settings.background_seeds != "large":
        outside |= outer
    if settings.background_seeds != "border" and settings.max_object is not None:
        outside |= sizes * voxel >= settings.max_object
    return outside


def smoothed(
    values: NDArray[np.float32], sigma: float, spacing: Sequence[float]
) -> NDArray[np.float32]:
    """Return values smoothed by a bell curve of `sigma` physical units; the border is mirrored."""
    from scipy.ndimage import gaussian_filter

    sigmas = [sigma / one for one in spacing]
    if not any(math.floor(_TRUNCATE * one + 0.5) for one in sigmas):
        return values
    found: NDArray[np.float32] = gaussian_filter(
        values, sigmas, mode="reflect", truncate=_TRUNCATE, output=np.float32
    )
    return found


def local_peaks(
    values: NDArray[np.float32], radius: float, spacing: Sequence[float]
) -> NDArray[np.bool_]:
    """Return the voxels that no voxel within a physical radius exceeds."""
    from scipy.ndimage import maximum_filter

    reach = morphology.reach(radius, spacing)
    sides = [np.arange(-n, n + 1) * one for n, one in zip(reach, spacing, strict=True)]
    away = sum(axis**2 for axis in np.meshgrid(*sides, indexing="ij"))
    ball = np.asarray(away <= inclusive(radius) ** 2)
    largest = maximum_filter(values, footprint=ball, mode="nearest")
    return np.asarray(values == largest, dtype=bool)


def transformed(
    mask: NDArray[np.bool_],
    steps: Sequence[Step],
    radii: Sequence[float],
    spacing: Sequence[float],
) -> NDArray[np.bool_]:
    """Return a mask after some steps of morphology with balls of physical radii."""
    for step, radius in zip(steps, radii, strict=True):
        mask = _MORPHOLOGY[step](mask, radius, spacing)
    return mask


def halo(plan: Plan, settings: LabelSettings, spacing: Sequence[float]) -> Coordinate:
    """Return how many voxels around a voxel, per axis, decide what the steps here make of it."""
    ndim = len(spacing)
    bell = _bell(settings.seed_smoothing, spacing)
    grown = (plan.growth_voxels,) * ndim, morphology.reach(plan.growth, spacing)
    mask = _sum(
        _sum(*grown),
        _reaches(settings.mask_steps, settings.mask_radii, spacing),
    )
    flooded = _sum(_bell(plan.smoothing, spacing), mask if plan.smooth == "mask" else (0,) * ndim)
    peaked = _sum(flooded, morphology.reach(settings.seed_peaks, spacing))
    moved = _reaches(settings.seed_steps, settings.seed_radii, spacing)
    seeds = _sum(_most(bell, peaked), moved)
    given = settings.background_radius
    near = _NEAR_CONTOURS, (1.0,) * ndim
    far = morphology.reach(*near) if given is None else morphology.reach(given, spacing)
    derived = (1,) * ndim  # jumps of offsets, affinities to neighbours
    # distances tell voxels apart up to one voxel beyond a radius
    return tuple(one + 1 for one in _sum(_most(seeds, mask, far), derived))


def _bell(sigma: float, spacing: Sequence[float]) -> Coordinate:
    return tuple(math.floor(_TRUNCATE * sigma / one + 0.5) for one in spacing)


def _reaches(steps: Sequence[Step], radii: Sequence[float], spacing: Sequence[float]) -> Coordinate:
    total = (0,) * len(spacing)
    for step, radius in zip(steps, radii, strict=True):
        ball = morphology.reach(radius, spacing)
        total = _sum(total, tuple(_BALLS[step] * one for one in ball))
    return total


def _sum(first: Coordinate, second: Coordinate) -> Coordinate:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _most(*reaches: Coordinate) -> Coordinate:
    return tuple(map(max, zip(*reaches, strict=True)))


def _all(values: Values, terms: Sequence[Term]) -> NDArray[np.bool_]:
    """Return where all of some terms hold."""
    found = holds(values, terms[0])
    for term in terms[1:]:
        found &= holds(values, term)
    return found
