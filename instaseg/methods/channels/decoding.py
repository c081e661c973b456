"""Predicted channels of an image that fits in memory to instances, for one or many parameter sets.

Four decoders, chosen by the set of channels (:mod:`instaseg.methods.channels.presets`)::

    watershed   thresholds -> seeds, mask -> flood the surface
    stars       candidates -> star shapes -> drop overlapping ones -> paint
    flow        mask -> follow the flow -> group ends
    affinities  thresholds -> seeds, mask -> flood fragments -> join them by evidence

What parameter sets share - channels as numbers, counted values, the surface, ends of flows, star
shapes - is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.errors import DataError
from instaseg.geometry import voxel_sides
from instaseg.io.quantise import dequantise
from instaseg.methods.channels import affinity_graph, flow_paths, star_shapes, steps
from instaseg.methods.channels.config import ChannelsSettings, LabelSettings
from instaseg.methods.channels.legacy import Generation
from instaseg.methods.channels.presets import AREAS, OFFSETS, Plan, make_plan
from instaseg.methods.channels.registry import channels_of
from instaseg.regions.flood import flood
from instaseg.regions.thresholds import ValueCounts, count_values

Made = TypeVar("Made")
Labels = NDArray[np.int32]

_KEPT = 16
"""Shared results that are held; the one not used for longest goes first."""


def instances_from_channels(
    channels: NDArray[Any],
    names: str | Sequence[str],
    spacing: Sequence[float] | None = None,
    *,
    letters: Generation = "biapy_before_3.0",
    labelling: Mapping[str, Any] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Labels:
    """Return the instances of an image of which channels are known.

    Parameters
    ----------
    channels : ndarray of float or uint8, (k, [z,] y, x)
        Components of all channels in the order of `names`; uint8 stands for ``255 p``.
    names : str or sequence of str
        Names, or letters of BiaPy such as ``"BCD"`` or ``["B", "C"]``.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in physical units; 1 where it is left out.
    letters : str
        The versions of BiaPy whose letters they are.
    labelling : mapping, optional
        Keys of ``[vote_instances]``.
    settings : mapping, optional
        Tables below ``[method]`` by name, for example ``{"contour": {"mode": "inner"}}``.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels 1, 2, 3 ... by their first voxels in raster order; 0 is background.

    Raises
    ------
    ConfigError
        If the channels cannot be decoded, or settings do not fit them.
    DataError
        If the array does not hold what the names say.

    Examples
    --------
    >>> contour = np.array([[1, 1, 0, 1, 1, 0, 1]], dtype=np.float32)
    >>> foreground = np.array([[0, 1, 1, 1, 1, 1, 1]], dtype=np.float32)
    >>> both = np.stack([foreground, contour])
    >>> instances_from_channels(both, ["foreground", "contour"]).tolist()
    [[0, 1, 1, 1, 2, 2, 2]]
    """
    found = ChannelsSettings.model_validate(
        {"channels": names, "letters": letters, **(settings or {})}
    )
    parameters = LabelSettings.model_validate(labelling or {})
    ndim = channels.ndim - 1
    if ndim not in (2, 3):
        raise DataError(
            "channels: expected axes (channels, y, x) or (channels, z, y, x), found shape"
            f" {list(channels.shape)}"
        )
    parts = channels_of(found, ndim)
    if len(channels) != sum(one.channels for one in parts):
        raise DataError(
            f"channels: expected {sum(one.channels for one in parts)} components for"
            f" {', '.join(one.name for one in parts)}, found {len(channels)} in an array of shape"
            f" {list(channels.shape)}"
        )
    ends = np.cumsum([one.channels for one in parts])[:-1]
    split = np.split(channels, ends)
    prediction = {one.name: part for one, part in zip(parts, split, strict=True)}
    return next(label_prediction(prediction, [parameters], settings=found, spacing=spacing))


def label_prediction(
    prediction: Mapping[str, NDArray[Any]],
    parameters: Sequence[LabelSettings],
    *,
    settings: ChannelsSettings,
    spacing: Sequence[float] | None = None,
) -> Iterator[Labels]:
    """Yield the instances for each set of parameters, in their order.

    Parameters
    ----------
    prediction : mapping of str to ndarray
        Each channel as it is stored, ``(components, [z,] y, x)``: float16 or float32, or uint8 for
        ``255 p``.
    parameters : sequence of LabelSettings
        Tables ``[vote_instances]``.
    settings : ChannelsSettings
        Table ``[method]``.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in physical units; 1 where it is left out.

    Yields
    ------
    ndarray of int32, ([z,] y, x)
        Labels 1, 2, 3 ... by their first voxels in raster order; 0 is background.

    Raises
    ------
    ConfigError
        If the channels cannot be decoded, or a threshold is for a channel that is not there.
    """
    image = Image(prediction, settings, spacing)
    for one in parameters:
        yield label_image(image, one)


def check_arrays(
    prediction: Mapping[str, NDArray[Any]],
    parameters: LabelSettings,
    *,
    settings: ChannelsSettings,
    spacing: Sequence[float] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return what instances are made from, to look at.

    Parameters
    ----------
    prediction, parameters, settings, spacing
        As for :func:`label_prediction`, of one parameter set.

    Returns
    -------
    dict of str to ndarray, ([z,] y, x)
        ``seed_map`` int32: seeds (fragments, star shapes, groups of ends) as they are numbered;
        ``foreground`` uint8: 1 where instances may be; ``surface`` float32: what is flooded (with
        flows, minus the hits; with stars, minus the score).
    """
    image = Image(prediction, settings, spacing)
    plan = image.plan(parameters)
    mask = image.mask(plan, parameters)
    inside = np.ones(image.shape, bool) if mask is None else mask
    if plan.decoder == "flow":
        hits = flow_paths.count_hits(image.ends(plan, parameters), image.shape)
        seeds = flow_paths.group_ends(hits, parameters.sink_hits)
        surface = -hits.astype(np.float32)
    elif plan.decoder == "stars":
        seeds = star_shapes.paint(image.shapes(plan, parameters), image.shape)
        surface = -image.score(plan, parameters)
    else:
        seeds, _ = seeds_of(image, plan, parameters)
        surface = image.surface(plan, parameters)
    return {"seed_map": seeds, "foreground": inside.astype(np.uint8), "surface": surface}


def label_image(image: Image, settings: LabelSettings) -> Labels:
    """Return the instances for one set of parameters."""
    plan = image.plan(settings)
    match plan.decoder:
        case "watershed":
            labels = _by_watershed(image, plan, settings)
        case "stars":
            labels = _by_stars(image, plan, settings)
        case "flow":
            labels = _by_flow(image, plan, settings)
        case "affinities":
            labels = _by_affinities(image, plan, settings)
    return numbered(drop_small(labels, settings.min_object / image.voxel))


class Image:
    """A prediction, and what parameter sets share of it.

    Parameters
    ----------
    prediction : mapping of str to ndarray
        Each channel as it is stored, ``(components, [z,] y, x)``.
    settings : ChannelsSettings
        Table ``[method]``.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in physical units; 1 where it is left out.

    Raises
    ------
    DataError
        If a channel is missing, or has another shape than the others.
    """

    def __init__(
        self,
        prediction: Mapping[str, NDArray[Any]],
        settings: ChannelsSettings,
        spacing: Sequence[float] | None = None,
    ) -> None:
        missing = [name for name in settings.channels if name not in prediction]
        if missing:
            raise DataError(
                f"prediction: expected the channels {', '.join(settings.channels)}, found"
                f" {', '.join(prediction) or 'none'}; predict {', '.join(missing)}"
            )
        self.shape = next(iter(prediction.values())).shape[1:]
        self.spacing = voxel_sides(spacing, len(self.shape))
        self.settings = settings
        self.channels = {one.name: one for one in channels_of(settings, len(self.shape))}
        for name, channel in self.channels.items():
            if prediction[name].shape != (channel.channels, *self.shape):
                raise DataError(
                    f"prediction of {name}: expected shape"
                    f" {[channel.channels, *self.shape]}, found {list(prediction[name].shape)}"
                )
        self.voxel = float(np.prod(self.spacing))
        """Area or volume of a voxel, in physical units."""
        self._prediction = prediction
        self._made: dict[Any, Any] = {}

    def shared(self, key: Any, make: Callable[[], Made]) -> Made:
        """Return what `make` gives, made once for a key while it is in use."""
        made: Made = self._made.pop(key) if key in self._made else make()
        self._made[key] = made
        if len(self._made) > _KEPT:
            del self._made[next(iter(self._made))]
        return made

    def components(self, name: str) -> NDArray[np.float32]:
        """Return all components of a channel as numbers, ``(components, [z,] y, x)``."""
        return self.shared(("channel", name), lambda: dequantise(self._prediction[name]))

    def map(self, name: str) -> NDArray[np.float32]:
        """Return a channel of one component, or a map that is made of a channel."""
        made = {
            "offsets": self._jumps,
            "affinities": self._weakest,
            "any_affinity": self._strongest,
        }
        if name in made:
            return self.shared(("map", name), made[name])
        values: NDArray[np.float32] = self.components(name)[0]
        return values

    def _weakest(self) -> NDArray[np.float32]:
        offsets = self.channels["affinities"].offsets
        return affinity_graph.weakest(self.components("affinities"), offsets)

    def _strongest(self) -> NDArray[np.float32]:
        offsets = self.channels["affinities"].offsets
        return affinity_graph.strongest(self.components("affinities"), offsets)

    def _jumps(self) -> NDArray[np.float32]:
        names = OFFSETS[3 - len(self.shape) :]
        parts = [self.components(name)[0] for name in names]
        return steps.jumps(parts, self.settings.offset.scale, self.spacing)

    def counts(self, name: str) -> ValueCounts:
        """Return how often each value of a map occurs."""
        return self.shared(("counts", name), lambda: count_values(self.map(name)))

    def plan(self, settings: LabelSettings) -> Plan:
        """Return what is done, with numbers as thresholds."""
        plan = make_plan(self.settings, settings, self.spacing)
        counts = {name: self.counts(name) for name in steps.needs_counts(plan)}
        return steps.with_numbers(plan, counts, self.channels)

    def values(self, plan: Plan) -> dict[str, NDArray[np.float32]]:
        """Return the maps that a plan looks at."""
        return {name: self.map(name) for name in steps.channels_of_plan(plan)}

    def surface(self, plan: Plan, settings: LabelSettings) -> NDArray[np.float32]:
        """Return the map that is flooded."""
        mask = self.mask(plan, settings)
        return self.shared(
            ("surface", *_surface_key(plan, settings)),
            lambda: steps.surface(self.values(plan), plan, mask, self.spacing),
        )

    def mask(self, plan: Plan, settings: LabelSettings) -> NDArray[np.bool_] | None:
        """Return where instances may be; None where that is everywhere."""
        return self.shared(
            ("mask", *_mask_key(plan, settings)),
            lambda: steps.growth_mask(self.values(plan), plan, settings, self.spacing),
        )

    def chosen(self, plan: Plan, settings: LabelSettings) -> NDArray[np.bool_]:
        """Return the voxels that are seeds, not told apart yet."""
        mask = self.mask(plan, settings)
        return steps.seed_mask(self.values(plan), plan, settings, mask, self.spacing)

    def ends(self, plan: Plan, settings: LabelSettings) -> NDArray[np.int64]:
        """Return where the voxels of the mask end that follow the flow."""
        mask = self.mask(plan, settings)
        assert mask is not None
        return self.shared(
            ("ends", settings.flow_steps, *_mask_key(plan, settings)),
            lambda: flow_paths.follow(
                self.components("flow"), mask, steps=settings.flow_steps, spacing=self.spacing
            ),
        )

    def score(self, plan: Plan, settings: LabelSettings) -> NDArray[np.float32]:
        """Return how good the star shape of each voxel is, see :func:`star_score`."""
        name = plan.flooded[0][0]
        return self.shared(
            ("score", *_surface_key(plan, settings)),
            lambda: star_score(self.surface(plan, settings), self.components("rays"), name),
        )

    def shapes(self, plan: Plan, settings: LabelSettings) -> star_shapes.Shapes:
        """Return the star shapes that remain, the best first."""
        keys = ("seed_smoothing", "seed_peaks", "seed_steps", "seed_radii", "star_peaks")
        own = (plan.seeds, *(getattr(settings, one) for one in keys))
        key = (*own, *_surface_key(plan, settings))
        candidates = self.shared(("candidates", *key), lambda: self.candidates(plan, settings))
        return self.shared(
            ("shapes", settings.star_overlap, *key),
            lambda: star_shapes.drop_overlapping(candidates, self.shape, settings.star_overlap),
        )

    def candidates(self, plan: Plan, settings: LabelSettings) -> star_shapes.Shapes:
        """Return the star shapes of all voxels that may be middles, the best first."""
        score = self.score(plan, settings)
        chosen = self.chosen(plan, settings)
        if settings.star_peaks > 0:
            radius = settings.star_peaks * min(self.spacing)
            chosen &= steps.local_peaks(score, radius, self.spacing)
        return star_shapes.shapes_at(chosen, score, self.components("rays"), self.spacing)


def _mask_key(plan: Plan, settings: LabelSettings) -> tuple[Any, ...]:
    """Return what the mask depends on."""
    own = (settings.mask_steps, settings.mask_radii)
    return (plan.mask, plan.also, plan.growth_voxels, plan.growth, *own)


def _surface_key(plan: Plan, settings: LabelSettings) -> tuple[Any, ...]:
    """Return what the surface depends on."""
    mask = _mask_key(plan, settings) if plan.smooth == "mask" else ()
    return (plan.flooded, plan.smoothing, *mask)


def star_score(
    surface: NDArray[np.float32], rays: NDArray[np.float32], name: str
) -> NDArray[np.float32]:
    """Return how good the star shape of each voxel is.

    Parameters
    ----------
    surface : ndarray of float32, ([z,] y, x)
        Low where instances are likely.
    rays : ndarray of float32, (number, [z,] y, x)
        Distances to the border.
    name : str
        Channel of the surface. A foreground is the same everywhere in an instance: it is
        multiplied by the shortest ray in parts of their mean, which is largest in the middle.
    """
    score = -surface
    if name not in AREAS:
        return score
    if name == "background":
        score = 1 + score
    rays = np.maximum(rays, 0)
    centred = rays.min(axis=0) / np.maximum(rays.mean(axis=0), np.float32(1e-6))
    return np.asarray(score * centred, dtype=np.float32)


def _by_watershed(image: Image, plan: Plan, settings: LabelSettings) -> Labels:
    seeds, background = seeds_of(image, plan, settings)
    mask = image.mask(plan, settings)
    lengths = steps.flood_lengths(plan, image.spacing)
    labels = flood(image.surface(plan, settings), seeds, mask=mask, lengths=lengths)
    if background:
        labels[labels == background] = 0
    return labels


def seeds_of(image: Image, plan: Plan, settings: LabelSettings) -> tuple[Labels, int]:
    """Return the seeds 1, 2, 3 ... of an image, and the number of the background's, 0 without one.

    Seeds of instances are numbered by their first voxels in raster order.
    """
    values, spacing = image.values(plan), image.spacing
    seeds = components(image.chosen(plan, settings))
    seeds = drop_small(seeds, settings.min_seed / image.voxel)
    mask = image.mask(plan, settings)
    if mask is not None and settings.unseeded == "keep":
        seeds = with_unseeded(seeds, mask, steps.sure_foreground(values, plan))
    if plan.background == "none":
        return numbered(seeds), 0
    background = np.zeros(image.shape, bool)
    if plan.background != "outside":
        background |= steps.background_far(values, plan, settings, spacing) & (seeds == 0)
    if plan.background == "unseeded":
        assert plan.background_seed is not None
        low = components(steps.holds(values, plan.background_seed))
        background |= without_seed(low, seeds)
    if plan.background == "outside":
        background |= looks_outside(seeds, settings, image.voxel)
    seeds = numbered(np.where(background, 0, seeds))
    number = int(seeds.max(initial=0)) + 1
    seeds[background] = number
    return seeds, number


def components(mask: NDArray[np.bool_]) -> Labels:
    """Return labels 1, 2, 3 ... of what is connected from face to face, in raster order."""
    labels: Labels = local_labels(mask, "faces").astype(np.int32)
    return labels


def numbered(labels: Labels) -> Labels:
    """Return labels renumbered 1, 2, 3 ... by their first voxels in raster order."""
    import fastremap

    found, _ = fastremap.renumber(np.ascontiguousarray(labels), preserve_zero=True, in_place=False)
    return np.asarray(found, dtype=np.int32)


def drop_small(labels: Labels, least: float) -> Labels:
    """Return labels without those of fewer than `least` voxels."""
    if least <= 1:
        return labels
    sizes = np.bincount(labels.reshape(-1))
    numbers = np.where(sizes >= least, np.arange(len(sizes)), 0).astype(np.int32)
    numbers[:1] = 0
    return numbers[labels]


def with_unseeded(seeds: Labels, mask: NDArray[np.bool_], sure: NDArray[np.bool_] | None) -> Labels:
    """Return seeds and, after them, what is sure in each part of the mask without a seed.

    Parameters
    ----------
    seeds : ndarray of int32, ([z,] y, x)
    mask : ndarray of bool, ([z,] y, x)
    sure : ndarray of bool, ([z,] y, x), optional
        Voxels that may be seeds; all where left out.
    """
    parts = components(mask)
    seeded = np.zeros(int(parts.max(initial=0)) + 1, bool)
    seeded[parts[seeds > 0]] = True
    seeded[0] = True
    if seeded.all():
        return seeds
    added = ~seeded[parts]
    if sure is not None:
        added &= sure
    count = int(seeds.max(initial=0))
    return np.where(added, parts + count, seeds).astype(np.int32)


def without_seed(regions: Labels, seeds: Labels) -> NDArray[np.bool_]:
    """Return the voxels of regions in which there is no seed."""
    free = np.ones(int(regions.max(initial=0)) + 1, bool)
    free[regions[seeds > 0]] = False
    free[0] = False
    return np.asarray(free[regions], dtype=bool)


def looks_outside(seeds: Labels, settings: LabelSettings, voxel: float) -> NDArray[np.bool_]:
    """Return the voxels of seeds that are background as far as their place or size tells.

    Parameters
    ----------
    seeds : ndarray of int32, ([z,] y, x)
    settings : LabelSettings
        Which seeds are background.
    voxel : float
        Area or volume of a voxel, in physical units.
    """
    sizes = np.bincount(seeds.reshape(-1))
    outer = np.zeros(len(sizes), bool)
    for axis in range(seeds.ndim):
        if seeds.shape[axis] > 1:
            outer[seeds.take([0, -1], axis)] = True
    outside = steps.are_outside(outer, sizes, settings, voxel)
    outside[:1] = False
    return np.asarray(outside[seeds], dtype=bool)


def _by_stars(image: Image, plan: Plan, settings: LabelSettings) -> Labels:
    labels = star_shapes.paint(image.shapes(plan, settings), image.shape)
    if settings.star_paint == "shape":
        return labels
    mask, lengths = image.mask(plan, settings), steps.flood_lengths(plan, image.spacing)
    return flood(image.surface(plan, settings), labels, mask=mask, lengths=lengths)


def _by_flow(image: Image, plan: Plan, settings: LabelSettings) -> Labels:
    mask = image.mask(plan, settings)
    assert mask is not None
    ends = image.ends(plan, settings)
    groups = flow_paths.group_ends(flow_paths.count_hits(ends, image.shape), settings.sink_hits)
    labels = flow_paths.label_ends(ends, mask, groups)
    if settings.flow_error is None:
        return labels
    from instaseg.methods.channels.instances import Instances
    from instaseg.methods.channels.targets_flows import flow

    own = flow(Instances(labels, image.spacing))
    errors = flow_paths.flow_errors(labels, image.components("flow"), own)
    kept = np.where(errors <= settings.flow_error, np.arange(len(errors)), 0).astype(np.int32)
    return kept[labels]


def _by_affinities(image: Image, plan: Plan, settings: LabelSettings) -> Labels:
    affinities, offsets = image.components("affinities"), image.channels["affinities"].offsets
    mask = image.mask(plan, settings)
    assert mask is not None
    if settings.partition == "voxels":
        return affinity_graph.label_voxels(affinities, offsets, mask)
    seeds, _ = seeds_of(image, plan, settings)
    lengths = steps.flood_lengths(plan, image.spacing)
    fragments = flood(image.surface(plan, settings), seeds, mask=mask, lengths=lengths)
    said = affinity_graph.evidence(affinities, offsets, fragments)
    joined = affinity_graph.join_fragments(said, int(fragments.max(initial=0)))
    return joined[fragments]
