"""From what blocks found of a prediction to a table of points with their connections.

All functions get what was found in all blocks; a volume as a whole is one block. Nothing here
depends on how the blocks were cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instaseg.io.arrays import Reader
from instaseg.io.points import (
    CLEFT,
    KINDS,
    POST,
    PRE,
    Points,
    connections,
    make_points,
    no_points,
    positions,
    select,
)
from instaseg.methods.synapses.config import PointSettings, SynapsesSettings
from instaseg.methods.synapses.pairing import cluster, nearest_by_score
from instaseg.methods.synapses.peaks import Candidates, Peaks, join_plateaus, suppress
from instaseg.regions.thresholds import ValueCounts, otsu


@dataclass(frozen=True)
class Decoding:
    """How points are made of a prediction: the two tables, without what they leave open.

    Parameters
    ----------
    sites : tuple of str
        Predicted sites.
    vectors : bool
        Whether presynaptic sites follow from vectors.
    threshold_by : {"value", "relative", "otsu"}
        Meaning of `thresholds`.
    thresholds : mapping of str to float
        By site.
    min_distance, pair_distance, cluster_distance : float
        Physical distances; see :class:`~instaseg.methods.synapses.config.PointSettings`.
    unit : float
        Physical length of a predicted vector of length 1.
    unpaired : {"keep", "drop"}
        What happens to sites without a partner.
    spacing : tuple of float
        Size of a voxel per axis.
    """

    sites: tuple[str, ...]
    vectors: bool
    threshold_by: str
    thresholds: Mapping[str, float]
    min_distance: float
    pair_distance: float
    cluster_distance: float
    unit: float
    unpaired: str
    spacing: tuple[float, ...]


def decoding(
    method: SynapsesSettings,
    settings: PointSettings,
    *,
    sites: tuple[str, ...],
    spacing: tuple[float, ...],
) -> Decoding:
    """Return the distances of two tables, those that are left out filled in."""
    distance = method.partner_distance or 0.0
    radius = method.blob_radius
    return Decoding(
        sites=sites,
        vectors=method.vectors,
        threshold_by=settings.threshold_by,
        thresholds={site: settings.threshold(site) for site in sites},
        min_distance=radius / 2 if settings.min_distance is None else settings.min_distance,
        pair_distance=settings.max_pair_distance or distance,
        cluster_distance=(
            radius if settings.cluster_distance is None else settings.cluster_distance
        ),
        unit=distance,
        unpaired=settings.unpaired,
        spacing=spacing,
    )


def found_threshold(how: Decoding, site: str, counts: ValueCounts | None) -> float:
    """Return the probability that peaks of a site have to exceed.

    Parameters
    ----------
    how : Decoding
        Says what its thresholds mean.
    site : str
        ``"pre"``, ``"post"`` or ``"cleft"``.
    counts : ValueCounts, optional
        Probabilities of the whole volume; only needed where the threshold follows from them.
    """
    if how.threshold_by == "value":
        return how.thresholds[site]
    assert counts is not None
    if how.threshold_by == "otsu":
        return float(otsu(counts))
    return how.thresholds[site] * float(counts.values[-1])


@dataclass(frozen=True)
class Found:
    """What was found of one site in all blocks.

    Parameters
    ----------
    candidates : sequence of Candidates
        By block; voxels of the volume.
    vectors : (n, axes) float32, optional
        Predicted vectors at the candidates, counted through all blocks.
    threshold : float
        What they exceed.
    """

    candidates: Sequence[Candidates]
    vectors: NDArray[np.float32] | None
    threshold: float


def points_of(found: Mapping[str, Found], how: Decoding) -> Points:
    """Return the points of a volume, with their connections.

    Parameters
    ----------
    found : mapping of str to Found
        By site.
    how : Decoding
        Distances.

    Returns
    -------
    (n, 4 + axes) float64
        See :mod:`instaseg.io.points`; presynaptic points first, each kind in raster order.
    """
    chosen = {site: _peaks(found[site], how) for site in how.sites}
    if how.vectors:
        peaks, ends = chosen["post"]
        assert ends is not None
        table = _by_vectors(peaks, ends, found["post"].threshold, how)
    elif "pre" in chosen:
        table = _by_distance(chosen["pre"][0], chosen["post"][0], found, how)
    else:
        (site,) = how.sites
        table = _plain(chosen[site][0], KINDS.index(site), found[site].threshold)
    return drop_unpaired(table) if how.unpaired == "drop" and PRE in table[:, 0] else table


def _peaks(found: Found, how: Decoding) -> tuple[Peaks, NDArray[np.float32] | None]:
    """Return the peaks that are kept, and their vectors."""
    peaks, numbers = join_plateaus(found.candidates, how.spacing)
    kept = suppress(peaks, how.min_distance, how.spacing)
    vectors = None if found.vectors is None else found.vectors[numbers[kept]]
    return peaks[kept], vectors


def _plain(peaks: Peaks, kind: int, threshold: float) -> Points:
    return make_points(kind, peaks.voxels, probability=peaks.values, threshold=threshold)


def _by_distance(pre: Peaks, post: Peaks, found: Mapping[str, Found], how: Decoding) -> Points:
    """Return pre- and postsynaptic peaks, joined by distance and probability."""
    spacing = np.array(how.spacing)
    partner = nearest_by_score(
        pre.voxels * spacing, post.voxels * spacing, pre.values, max_distance=how.pair_distance
    )
    table = np.concatenate(
        [
            _plain(pre, PRE, found["pre"].threshold),
            _plain(post, POST, found["post"].threshold),
        ]
    )
    table[len(pre.values) :, -1] = partner
    return table


def _by_vectors(
    post: Peaks, vectors: NDArray[np.float32], threshold: float, how: Decoding
) -> Points:
    """Return postsynaptic peaks, and as presynaptic points the clusters of the vectors' ends.

    A vector points from its voxel to the presynaptic site: its end is position plus vector. Ends
    further away than partners can be are no presynaptic sites.
    """
    spacing = np.array(how.spacing)
    steps = vectors.astype(np.float64) * how.unit
    near = np.flatnonzero(np.linalg.norm(steps, axis=1) <= how.pair_distance)
    ends = post.voxels[near] * spacing + steps[near]
    clusters = cluster(ends, post.values[near], how.cluster_distance)
    pre = make_points(
        PRE, clusters.places / spacing, probability=clusters.probability, threshold=threshold
    )
    table = np.concatenate([pre, _plain(post, POST, threshold)])
    table[len(pre) + near, -1] = clusters.of_end
    return table


def drop_unpaired(table: Points) -> Points:
    """Return a table without sites that have no partner."""
    keep = table[:, 0] == CLEFT
    keep[connections(table).ravel()] = True
    return select(table, keep)


def drop_within_segments(table: Points, segments: NDArray[np.integer]) -> Points:
    """Return a table without connections inside one segment, and without sites that had no other.

    A synapse joins two neurons; one inside a neuron is a false one.

    Parameters
    ----------
    table : (n, 4 + axes) float64
        Points with partners.
    segments : (n,) int
        The neuron at each point; 0 where none is known, which is never the same one.
    """
    pairs = connections(table)
    within = (segments[pairs[:, 0]] == segments[pairs[:, 1]]) & (segments[pairs[:, 0]] != 0)
    if not within.any():
        return table
    wrong, right = pairs[within], pairs[~within]
    keep = np.ones(len(table), bool)
    keep[wrong[:, 1]] = False
    keep[np.setdiff1d(wrong[:, 0], right[:, 0])] = False
    return select(table, keep)


@dataclass(frozen=True)
class Regions:
    """Connected regions of painted clefts; sums over voxels, so that parts of one add up.

    Parameters
    ----------
    sizes : (n,) int64
        Voxels.
    sums : (n, axes) int64
        Sum of the voxels' positions.
    highest : (n,) float32
        Greatest probability.
    """

    sizes: NDArray[np.int64]
    sums: NDArray[np.int64]
    highest: NDArray[np.float32]


def clefts_of(regions: Regions, min_voxels: int, threshold: float) -> Points:
    """Return the centroids of regions of at least `min_voxels` voxels as points."""
    keep = regions.sizes >= min_voxels
    if not keep.any():
        return no_points(regions.sums.shape[1])
    centroids = regions.sums[keep] / regions.sizes[keep, np.newaxis]
    return make_points(CLEFT, centroids, probability=regions.highest[keep], threshold=threshold)


def measure_regions(
    labels: NDArray[np.integer], values: NDArray[np.float32], count: int
) -> Regions:
    """Return sums over the voxels of the labels 1 ... `count` of a block.

    Positions count from the block's begin; labels without voxels have sums of 0.

    Parameters
    ----------
    labels : ([z,] y, x) int
        0 is background.
    values : ([z,] y, x) float32
        Probabilities.
    count : int
        Greatest label.
    """
    voxels = np.nonzero(labels)
    found = labels[voxels].astype(np.int64) - 1
    sums = np.zeros((count, labels.ndim), np.int64)
    highest = np.zeros(count, np.float32)
    for axis, places in enumerate(voxels):
        np.add.at(sums[:, axis], found, places)
    np.maximum.at(highest, found, values[voxels])
    return Regions(np.bincount(found, minlength=count).astype(np.int64), sums, highest)


def segments_at(table: Points, labels: Reader | NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the label at each point of a table, for :func:`drop_within_segments`.

    Labels ``([z,] y, x)`` on disk are read at these voxels only.
    """
    last = np.array(labels.shape) - 1
    voxels = np.clip(np.rint(positions(table)).astype(np.int64), 0, last)
    values = [
        int(labels[tuple(slice(v, v + 1) for v in voxel)].item()) for voxel in voxels.tolist()
    ]
    # ids may need all of 64 bits without a sign; only which are equal, and 0, matters
    return np.array([value if value < 2**63 else value - 2**64 for value in values], np.int64)
