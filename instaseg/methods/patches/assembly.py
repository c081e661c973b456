"""All steps together: predicted patches in, instances out, for one or many sets of parameters.

Steps depend on each other like this; each is computed once for all parameter sets that agree in
everything to its left::

    foreground -> consensus -> ranking -> selection -> graph -> instances
    fg_threshold  patch_       rank       cover        patch_     partition
    ignore_...    threshold               fc_...       distance   single_patches
                  background              thin_out     same_...   output
                  vote, ...               score_...

Only one consensus, the largest of them by far, is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.errors import DataError
from instaseg.geometry import bounding_box, whole
from instaseg.io.quantise import dequantise
from instaseg.methods.base import Device
from instaseg.methods.patches import bits
from instaseg.methods.patches.config import Background, LabelSettings
from instaseg.methods.patches.consensus import Consensus, VoteRule
from instaseg.methods.patches.cover import cover, passes
from instaseg.methods.patches.kernels import choose_kernels
from instaseg.methods.patches.offsets import Window, complete, drop_flat_axis, lift, window
from instaseg.methods.patches.painting import paint
from instaseg.methods.patches.patch_graph import patch_graph
from instaseg.methods.patches.thin_out import thin_out
from instaseg.methods.patches.through import Claims, claims_in_overlap, painted_once
from instaseg.regions.partition import Graph, partition
from instaseg.regions.thinning import thin_volume


@dataclass(frozen=True)
class Inputs:
    """Checked inputs in 3-D.

    Parameters
    ----------
    affinities : (K, z, y, x) float32, float16, uint8 or bool
        Predicted patches.
    foreground : (z, y, x) bool or float
        Foreground, or its probability.
    overlap : (z, y, x) bool or float, or None
        Voxels of more than one instance, or its probability.
    window : Window
        The patch.
    ndim : {2, 3}
        Spatial axes of what was passed in.
    """

    affinities: NDArray[Any]
    foreground: NDArray[Any]
    overlap: NDArray[Any] | None
    window: Window
    ndim: int


@dataclass(frozen=True)
class Volume:
    """Inputs for one foreground threshold.

    Parameters
    ----------
    inputs : Inputs
        What was passed in.
    foreground, visible, centres : (z, y, x) bool
        Foreground; foreground that is not overlap; foreground whose patch lies inside the volume.
    device : {"cpu", "cuda"}
        Where consensus and scores are computed.
    """

    inputs: Inputs
    foreground: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    centres: NDArray[np.bool_]
    device: Device = "cpu"


def rank_patches(
    affinities: NDArray[Any],
    foreground: NDArray[Any],
    patch_shape: Sequence[int],
    *,
    patch_threshold: float = 0.5,
    background: Background = "inverse",
    overlap: NDArray[Any] | None = None,
) -> NDArray[np.float32]:
    """Return how well each patch agrees with the consensus of all patches.

    Parameters
    ----------
    affinities : (K, [z,] y, x) float32, float16, uint8 (0...255) or bool
        Probability that the voxel at an offset (raster order) has the instance of the centre.
    foreground : ([z,] y, x) bool, integer or float
        Foreground; not 0 of integers, above 0.5 of probabilities.
    patch_shape : sequence of int
        Odd sides of the patch in voxels; ``K`` is their product.
    patch_threshold : float
        Above it a voxel is in the patch.
    background : {"inverse", "half", "less_than"}
        Below ``1 - patch_threshold`` (at most `patch_threshold`), half of it, or it, a voxel is not
        in the patch.
    overlap : ([z,] y, x) bool, optional
        Voxels of more than one instance: they form no pairs.

    Returns
    -------
    ([z,] y, x) float32
        Score of the patch centred at each voxel; -1 where the centre is background or the patch
        crosses the border. Units: voxels.

    Raises
    ------
    DataError
        If shapes do not fit each other, or values are no probabilities.

    Notes
    -----
    Specification, section 3, steps 1 and 2, with normalised votes and their mean.
    """
    settings = LabelSettings(patch_threshold=patch_threshold, background=background)
    inputs = check_inputs(affinities, foreground, patch_shape, overlap)
    volume = prepare(inputs, settings)
    scores = score(volume, vote(volume, settings), settings)
    return scores[0] if inputs.ndim == 2 else scores


def assemble(
    affinities: NDArray[Any],
    foreground: NDArray[Any] | None = None,
    *,
    patch_shape: Sequence[int],
    settings: LabelSettings | None = None,
    overlap: NDArray[Any] | None = None,
    device: Device = "cpu",
) -> NDArray[np.int32]:
    """Return the instances that predicted patches agree on.

    Parameters
    ----------
    affinities : (K, [z,] y, x) float32, float16, uint8 (0...255) or bool
        Probability that the voxel at an offset (raster order) has the instance of the centre.
    foreground : ([z,] y, x) bool or float, optional
        Foreground, or its probability; the patches' centre channel where left out.
    patch_shape : sequence of int
        Odd sides of the patch in voxels; ``K`` is their product.
    settings : LabelSettings, optional
        All parameters; the defaults where left out.
    overlap : ([z,] y, x) bool or float, optional
        Voxels of more than one instance, or its probability.
    device : {"cpu", "cuda"}
        Where consensus and scores are computed.

    Returns
    -------
    ([z,] y, x) int32, or (n, [z,] y, x) int32
        Labels from 1, numbered by the rank of each instance's best patch; with channels if
        ``settings.output`` asks for them. Units: voxels.

    Raises
    ------
    DataError
        If shapes do not fit each other, or values are no probabilities.

    References
    ----------
    Hirsch, Mais and Kainmueller, PatchPerPix for Instance Segmentation, ECCV 2020,
    https://arxiv.org/abs/2001.07626
    """
    chosen = LabelSettings() if settings is None else settings
    return next(
        sweep(
            affinities,
            foreground,
            [chosen],
            patch_shape=patch_shape,
            overlap=overlap,
            device=device,
        )
    )


def sweep(
    affinities: NDArray[Any],
    foreground: NDArray[Any] | None,
    settings: Sequence[LabelSettings],
    *,
    patch_shape: Sequence[int],
    overlap: NDArray[Any] | None = None,
    device: Device = "cpu",
) -> Iterator[NDArray[np.int32]]:
    """Yield the instances for each of `settings`, in their order; nothing is computed twice.

    Parameters
    ----------
    affinities, foreground, patch_shape, overlap, device
        As in :func:`assemble`.
    settings : sequence of LabelSettings
        Parameter sets. Those that share a consensus are computed together; results wait for
        their turn as label images.

    Yields
    ------
    ([z,] y, x) int32, or (n, [z,] y, x) int32
    """
    inputs = check_inputs(affinities, foreground, patch_shape, overlap)
    waiting: dict[int, NDArray[np.int32]] = {}
    turn = 0
    for position, labels in _grouped(inputs, settings, device):
        waiting[position] = labels
        while turn in waiting:
            yield waiting.pop(turn)
            turn += 1


FOREGROUND = ("fg_threshold", "overlap_threshold", "ignore_small_components", "region")
CONSENSUS = ("patch_threshold", "background", "vote", "consensus")
RANKING = ("rank",)
SELECTION = ("fc_threshold", "score_threshold", "cover", "cover_mask", "thin_out")
GRAPH = ("patch_distance", "same_patch_weight")
"""Parameters that each step depends on, beside those of the steps before it."""

Indexed = tuple[int, LabelSettings]


def _groups(settings: Sequence[Indexed], keys: Sequence[str]) -> Iterator[list[Indexed]]:
    """Yield the parameter sets that agree in `keys`, in the order of first appearance."""
    groups: dict[tuple[Any, ...], list[Indexed]] = {}
    for position, one in settings:
        groups.setdefault(tuple(getattr(one, key) for key in keys), []).append((position, one))
    yield from groups.values()


def _grouped(
    inputs: Inputs, settings: Sequence[LabelSettings], device: Device
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    for same_foreground in _groups(list(enumerate(settings)), FOREGROUND):
        volume, box = _cropped(
            prepare(inputs, same_foreground[0][1], device), same_foreground[0][1]
        )
        for same_consensus in _groups(same_foreground, CONSENSUS):
            for position, labels in _with_consensus(volume, same_consensus):
                yield position, _restored(labels, box, inputs)


def _with_consensus(
    volume: Volume, settings: list[Indexed]
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    votes = vote(volume, settings[0][1])
    for same_ranking in _groups(settings, RANKING):
        scores = score(volume, votes, same_ranking[0][1])
        for same_selection in _groups(same_ranking, SELECTION):
            one = same_selection[0][1]
            positions = select(volume, scores, one)
            claimed = _claimed(volume, positions, one.patch_threshold)
            for same_graph in _groups(same_selection, GRAPH):
                graph = _graph(votes, claimed, positions, same_graph[0][1])
                for position, chosen in same_graph:
                    yield position, _paint(volume, graph, claimed, positions, chosen)


def prepare(inputs: Inputs, settings: LabelSettings, device: Device = "cpu") -> Volume:
    """Return the volume whose foreground the settings ask for."""
    foreground, visible = masks(inputs.foreground, inputs.overlap, settings)
    if settings.ignore_small_components:
        foreground = _without_small(foreground, settings.ignore_small_components)
        visible = visible & foreground
    centres = foreground & complete(foreground.shape, inputs.window.radius)
    return Volume(inputs, foreground, visible, centres, device)


def masks(
    foreground: NDArray[Any], overlap: NDArray[Any] | None, settings: LabelSettings
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where instances are, small components too, and where these are of one instance only.

    Parameters
    ----------
    foreground : (z, y, x) bool or float
        Foreground, or its probability.
    overlap : (z, y, x) bool or float, optional
        Voxels of more than one instance, or their probability.
    settings : LabelSettings
        Thresholds.
    """
    found = _above(foreground, settings.fg_threshold)
    if overlap is None:
        return found, found
    return found, found & ~_above(overlap, settings.overlap_threshold)


def _above(mask: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """Return where probabilities exceed a threshold; a mask is returned as it is."""
    return mask if mask.dtype == np.bool_ else np.asarray(mask > np.float32(threshold), dtype=bool)


def _without_small(foreground: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Return the foreground without components (faces, edges and corners) below `least` voxels."""
    components = local_labels(foreground)
    large = np.bincount(components.ravel()) >= least
    large[0] = False
    return np.asarray(large[components], dtype=bool)


def _rule(settings: LabelSettings) -> VoteRule:
    return VoteRule(
        settings.patch_threshold, settings.background, settings.vote, settings.consensus
    )


def unit(settings: LabelSettings, window: Window) -> float:
    """Return the consensus of one fixed-point unit."""
    return _rule(settings).unit(window.size)


def vote(
    volume: Volume, settings: LabelSettings, *, wanted: NDArray[np.bool_] | None = None
) -> Consensus:
    """Return the consensus of the volume's patches (step 1), of all voxels or those `wanted`."""
    return choose_kernels(volume.device).consensus(
        volume.inputs.affinities,
        volume.visible,
        volume.centres,
        window=volume.inputs.window,
        rule=_rule(settings),
        wanted=wanted,
    )


def score(volume: Volume, votes: Consensus, settings: LabelSettings) -> NDArray[np.float32]:
    """Return the score ``(z, y, x)`` of every patch (step 2)."""
    return choose_kernels(volume.device).rank(
        volume.inputs.affinities,
        votes,
        volume.centres,
        rule=_rule(settings),
        signs=settings.rank == "signs",
    )


def candidates(
    volume: Volume, scores: NDArray[np.float32], settings: LabelSettings
) -> NDArray[np.bool_]:
    """Return the centres ``(z, y, x)`` of the patches that may be selected."""
    found = volume.centres & volume.visible
    if settings.score_threshold is not None:
        found &= scores >= np.float32(settings.score_threshold)
    return found


def select(
    volume: Volume, scores: NDArray[np.float32], settings: LabelSettings
) -> NDArray[np.int64]:
    """Return the centres ``(n, 3)`` of the selected patches, best first (steps 3 and 4)."""
    patch = volume.inputs.window
    possible = candidates(volume, scores, settings)
    mask = volume.visible
    if settings.cover_mask == "skeleton":
        mask = mask & skeleton(volume.foreground, volume.inputs.ndim)
    covers = bits.patch_bits(
        volume.inputs.affinities, possible, window=patch, threshold=settings.fc_threshold
    )
    positions = np.argwhere(possible)
    least = passes(settings.cover, patch.size)
    chosen = cover(scores[possible], covers, positions, mask=mask, window=patch, least=least)
    if settings.thin_out == "greedy":
        kept = thin_out(covers[chosen], positions[chosen], mask=mask, window=patch)
        chosen = chosen[kept]
    return np.ascontiguousarray(positions[chosen])


def skeleton(foreground: NDArray[np.bool_], ndim: int) -> NDArray[np.bool_]:
    """Return the centre lines ``(z, y, x)`` of a foreground: 2-D thinning in 2-D, Lee's in 3-D."""
    voxels = np.argwhere(foreground)
    lines = np.zeros_like(foreground)
    lines[tuple(voxels[on_skeleton(voxels, ndim)].T)] = True
    return lines


def on_skeleton(voxels: NDArray[np.int64], ndim: int) -> NDArray[np.bool_]:
    """Return which voxels ``(n, 3)`` of a foreground, in raster order, lie on its centre lines.

    2-D thinning holds the bounding box of the voxels, 3-D thinning some words for each of them.
    """
    if not len(voxels):
        return np.zeros(0, dtype=bool)
    if ndim == 3:
        return thin_volume(voxels)
    from skimage.morphology import skeletonize

    box = bounding_box(voxels.T)
    places = tuple((voxels - box.begin).T)[1:]
    image = np.zeros(box.shape[1:], dtype=bool)
    image[places] = True
    return np.asarray(skeletonize(image)[places], dtype=bool)


def _graph(
    votes: Consensus,
    claimed: NDArray[np.uint64],
    positions: NDArray[np.int64],
    settings: LabelSettings,
) -> Graph:
    return patch_graph(
        votes,
        claimed,
        positions,
        distance=settings.patch_distance,
        same_patch_weight=settings.same_patch_weight,
    )


def _paint(
    volume: Volume,
    graph: Graph,
    claimed: NDArray[np.uint64],
    positions: NDArray[np.int64],
    settings: LabelSettings,
) -> NDArray[np.int32]:
    instances = partition(graph, how=settings.partition, singles=settings.single_patches)
    z, y, x = volume.foreground.shape
    window_ = volume.inputs.window
    if settings.painted_above != settings.patch_threshold:
        claimed = _claimed(volume, positions, settings.painted_above)
    claims = Claims(instances, claimed, positions)
    if settings.paint == "foreground":
        claims = claims.inside(volume.foreground, window=window_)
    overlap = volume.foreground & ~volume.visible
    if overlap.any():
        alone = painted_once(claims, (z, y, x), window=window_)
        claims += claims_in_overlap(
            volume.inputs.affinities,
            np.where(volume.visible & volume.centres, alone, 0),
            overlap,
            window=window_,
            threshold=settings.painted_above,
        )
    return paint(
        claims.instances,
        claims.patches,
        claims.positions,
        shape=(z, y, x),
        window=window_,
        output=settings.output,
    )


def join(
    volume: Volume, votes: Consensus, positions: NDArray[np.int64], settings: LabelSettings
) -> NDArray[np.int32]:
    """Return the instances ``([n,] z, y, x)`` that the selected patches form (steps 5 and 6)."""
    claimed = _claimed(volume, positions, settings.patch_threshold)
    graph = _graph(votes, claimed, positions, settings)
    return _paint(volume, graph, claimed, positions, settings)


def _claimed(volume: Volume, positions: NDArray[np.int64], threshold: float) -> NDArray[np.uint64]:
    """Return the voxels that the selected patches claim, as bits."""
    inputs = volume.inputs
    return bits.gather_bits(inputs.affinities, positions, window=inputs.window, threshold=threshold)


def _cropped(volume: Volume, settings: LabelSettings) -> tuple[Volume, tuple[slice, ...] | None]:
    """Return the volume cut to the foreground and the reach of a patch, and where that was."""
    if settings.region == "whole" or not volume.foreground.any():
        return volume, None
    inputs = volume.inputs
    seen = bounding_box(np.nonzero(volume.foreground)).grow(inputs.window.radius)
    index = seen.intersect(whole(volume.foreground.shape)).slices
    cut = Inputs(
        inputs.affinities[(slice(None), *index)],
        inputs.foreground,
        None,
        inputs.window,
        inputs.ndim,
    )
    masks = (volume.foreground[index], volume.visible[index], volume.centres[index])
    return Volume(cut, *masks, volume.device), index


def _restored(
    labels: NDArray[np.int32], box: tuple[slice, ...] | None, inputs: Inputs
) -> NDArray[np.int32]:
    """Put labels of a cut volume back in place and drop the z axis of 2-D data."""
    if box is not None:
        full = np.zeros((*labels.shape[:-3], *inputs.foreground.shape), dtype=labels.dtype)
        index: tuple[Any, ...] = (..., *box)
        full[index] = labels
        labels = full
    return labels[..., 0, :, :] if inputs.ndim == 2 else labels


def check_inputs(
    affinities: NDArray[Any],
    foreground: NDArray[Any] | None,
    patch_shape: Sequence[int],
    overlap: NDArray[Any] | None,
) -> Inputs:
    """Return the inputs in 3-D, or say what is wrong with them."""
    affinities = np.asarray(affinities)
    if affinities.ndim not in (3, 4):
        raise DataError(
            f"affinities must be (K, y, x) or (K, z, y, x); got shape {affinities.shape}: put the "
            "patch's voxels first"
        )
    ndim = affinities.ndim - 1
    patch = window(drop_flat_axis(patch_shape, ndim))
    if ndim == 2 and patch.shape[0] > 1:
        raise DataError(
            f"patch_shape {tuple(patch_shape)} is 3-D but affinities are 2-D, shape "
            f"{affinities.shape}: give two sides"
        )
    if affinities.shape[0] != patch.size:
        raise DataError(
            f"affinities must have {patch.size} channels for patches of {tuple(patch_shape)}; got "
            f"{affinities.shape[0]} (shape {affinities.shape}): check patch_shape"
        )
    if affinities.dtype == np.float64:
        affinities = affinities.astype(np.float32)
    if affinities.dtype not in (np.float32, np.float16, np.uint8, np.bool_):
        raise DataError(
            "affinities must be float32, float16, uint8 (0...255) or bool; got "
            f"{affinities.dtype}: convert them"
        )
    if foreground is None:
        foreground = dequantise(affinities[patch.size // 2])
    shape = affinities.shape[1:]
    mask = _fitting("foreground", foreground, shape)
    hidden = None if overlap is None else lift(_fitting("overlap", overlap, shape), ndim)
    return Inputs(lift(affinities, ndim), lift(mask, ndim), hidden, patch, ndim)


def _fitting(name: str, mask: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `mask` as bool or float, or say that its shape or its values do not fit."""
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise DataError(
            f"{name} must have the affinities' spatial shape {shape}; got {mask.shape}: crop or "
            "pad it"
        )
    if mask.dtype.kind in "iu":
        return np.asarray(mask != 0)
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise DataError(f"{name} must be finite; it holds NaN or infinity: check the prediction")
    return mask
