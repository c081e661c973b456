"""Which sites belong together, worked out by hand."""

import numpy as np
import pytest

from instaseg.methods.synapses.pairing import cluster, nearest_by_score


def on_line(*places):
    return np.array(places, dtype=float)[:, np.newaxis]


def test_one_pre_may_have_many_posts():
    found = nearest_by_score(on_line(0), on_line(1, -2, 3), np.array([0.9]), max_distance=5)
    assert found.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("place", "partner"), [(10, 0), (10.01, -1)])
def test_sites_further_apart_than_the_limit_are_not_joined(place, partner):
    found = nearest_by_score(on_line(0), on_line(place), np.array([1.0]), max_distance=10)
    assert found.tolist() == [partner]


def test_a_likelier_pre_wins_against_one_that_is_little_nearer():
    # scores at the distances 4 and 5 of at most 10: 0.5 * 0.8 and 0.9 * 0.75
    pre = on_line(0, 9)
    found = nearest_by_score(pre, on_line(4), np.array([0.5, 0.9]), max_distance=10)
    assert found.tolist() == [1]
    assert nearest_by_score(pre, on_line(4), np.ones(2), max_distance=10).tolist() == [0]


def test_without_sites_nothing_is_joined():
    none = np.zeros((0, 3))
    assert (
        nearest_by_score(none, np.zeros((2, 3)), np.zeros(0), max_distance=1).tolist() == [-1] * 2
    )
    assert nearest_by_score(np.zeros((2, 3)), none, np.ones(2), max_distance=1).tolist() == []


def test_chains_of_ends_are_one_cluster():
    found = cluster(on_line(0, 10, 2, 4.5), np.array([1.0, 0.5, 1.0, 2.0]), 2.5)
    assert found.of_end.tolist() == [0, 1, 0, 0]
    assert found.places.ravel().tolist() == [(0 + 2 + 9) / 4, 10]
    assert found.probability.tolist() == [2.0, 0.5]


def test_no_ends_are_no_clusters():
    found = cluster(np.zeros((0, 2)), np.zeros(0), 3.0)
    assert found.places.shape == (0, 2)
    assert found.of_end.tolist() == []
