"""Connections that are dropped, regions of painted clefts; thresholds."""

import numpy as np
import pytest

from instaseg.io.points import make_points
from instaseg.methods.synapses.config import PointSettings, SynapsesSettings
from instaseg.methods.synapses.decode import (
    clefts_of,
    decoding,
    drop_unpaired,
    drop_within_segments,
    found_threshold,
    measure_regions,
    segments_at,
)
from instaseg.regions.thresholds import count_values


@pytest.fixture
def table():
    """Return two presynaptic sites with one and two posts, a post and a pre alone."""
    places = [[2, 2], [2, 9], [2, 5], [5, 9], [2, 12], [9, 9], [9, 2]]
    return make_points([0, 0, 1, 1, 1, 1, 0], places, partner=[-1, -1, 0, 1, 1, -1, -1])


def test_sites_without_partner_are_dropped(table):
    kept = drop_unpaired(table)
    assert kept[:, 0].tolist() == [0, 0, 1, 1, 1]
    assert kept[:, -1].tolist() == [-1, -1, 0, 1, 1]


def test_connections_inside_a_neuron_are_dropped(table):
    neurons = np.zeros((12, 14), np.uint16)
    neurons[:, :7] = 1  # holds the first connection
    neurons[2, 9] = neurons[2, 12] = 2  # and this the last of the second site
    kept = drop_within_segments(table, segments_at(table, neurons))
    # the first site has no other connection, the second keeps one; sites alone are not judged
    assert kept[:, 1:3].tolist() == [[2, 9], [5, 9], [9, 9], [9, 2]]
    assert kept[:, -1].tolist() == [-1, 0, -1, -1]


def test_unknown_neurons_are_never_the_same(table):
    assert drop_within_segments(table, np.zeros(len(table), np.int64)) is table


def test_regions_are_centroids_of_enough_voxels():
    labels = np.zeros((6, 8), np.int32)
    labels[1:3, 1:5], labels[5, 7] = 1, 2
    values = np.where(labels, 0.75, 0).astype(np.float32)
    values[1, 2] = 0.875
    points = clefts_of(measure_regions(labels, values, 2), 2, 0.5)
    assert points.tolist() == [[2, 1.5, 2.5, 0.875, 0.5, -1]]
    assert clefts_of(measure_regions(labels, values, 2), 9, 0.5).shape == (0, 6)


def how(**settings):
    method = SynapsesSettings(kind="post", blob_radius=2)
    return decoding(method, PointSettings(**settings), sites=("post",), spacing=(1.0, 1.0))


def test_thresholds_are_values_shares_or_otsu():
    counts = count_values(np.float32([0.1, 0.1, 0.2, 0.8, 0.9]))
    assert found_threshold(how(post_threshold=0.25), "post", None) == 0.25
    relative = how(post_threshold=0.5, threshold_by="relative")
    assert found_threshold(relative, "post", counts) == pytest.approx(0.45)
    assert found_threshold(how(threshold_by="otsu"), "post", counts) == pytest.approx(0.2)


def test_distances_that_are_left_out_are_those_of_the_method():
    method = SynapsesSettings(blob_radius=3, partner_distance=9)
    found = decoding(method, PointSettings(), sites=("pre", "post"), spacing=(1.0, 1.0))
    assert (found.min_distance, found.pair_distance, found.cluster_distance) == (1.5, 9, 3)
    given = PointSettings(min_distance=0, max_pair_distance=4, cluster_distance=1)
    found = decoding(method, given, sites=("pre", "post"), spacing=(1.0, 1.0))
    assert (found.min_distance, found.pair_distance, found.cluster_distance) == (0, 4, 1)
