"""Evidence between fragments on small images drawn by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.channels.affinity_graph import (
    UNIT,
    PairEvidence,
    evidence,
    join_fragments,
    label_voxels,
    nearest_pairs,
    strongest,
    weakest,
)

NEAR = [(-1, 0), (0, -1)]


def test_weakest_and_strongest_see_both_neighbours():
    affinities = np.array([[[0, 0.9, 0.2, 0.6]]], np.float32)
    assert weakest(affinities, [(0, -1)]).tolist() == np.float32([[0.9, 0.2, 0.2, 0.6]]).tolist()
    assert strongest(affinities, [(0, -1)]).tolist() == np.float32([[0.9, 0.9, 0.6, 0.6]]).tolist()


def test_an_offset_the_other_way_is_the_same_pair():
    back = np.array([[[0, 0.9, 0.2]]], np.float32)
    ahead = np.array([[[0.9, 0.2, 0]]], np.float32)
    np.testing.assert_array_equal(weakest(back, [(0, -1)]), weakest(ahead, [(0, 1)]))


def test_without_neighbours_the_shortest_offsets_count():
    assert nearest_pairs([(0, 3), (0, 2), (2, 0)]) == [1, 2]


def test_evidence_of_a_row():
    fragments = np.array([[1, 1, 2, 0, 3]], np.int32)
    affinities = np.array([[[0, 1, 0.25, 1, 1]], [[0, 0, 1, 1, 0.0]]], np.float32)
    found = evidence(affinities, [(0, -1), (0, -2)], fragments)
    assert found.pairs.tolist() == [[1, 2], [2, 3]]
    assert found.sums.tolist() == [UNIT // 2, -UNIT]  # -1/2 and 1; -1
    assert found.counts.tolist() == [2, 1]


def plain_evidence(affinities, offsets, fragments):
    sums = {}
    for values, offset in zip(affinities, offsets, strict=True):
        for place in itertools.product(*map(range, fragments.shape)):
            other = tuple(p + o for p, o in zip(place, offset, strict=True))
            if any(not 0 <= p < n for p, n in zip(other, fragments.shape, strict=True)):
                continue
            pair = tuple(sorted((int(fragments[place]), int(fragments[other]))))
            if pair[0] and pair[0] != pair[1]:
                total, count = sums.get(pair, (0, 0))
                sums[pair] = total + round(UNIT * (2 * float(values[place]) - 1)), count + 1
    return sums


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), ndim=st.sampled_from([2, 3]))
def test_evidence_is_that_of_a_plain_version(seed, ndim):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, ndim))
    offsets = [tuple(one) for one in np.unique(rng.integers(-3, 4, (4, ndim)), axis=0) if one.any()]
    affinities = np.float32(rng.integers(0, 9, (len(offsets), *shape)) / 8)
    fragments = rng.integers(0, 4, shape).astype(np.int32)
    found = evidence(affinities, offsets, fragments)
    expected = plain_evidence(affinities, offsets, fragments)
    assert list(map(tuple, found.pairs.tolist())) == sorted(expected)
    for pair, total, count in zip(found.pairs, found.sums, found.counts, strict=True):
        assert expected[tuple(pair)] == (total, count)


def test_evidence_of_parts_adds_up():
    first = PairEvidence(np.array([[1, 2], [1, 3]]), np.array([5, 1]), np.array([1, 1]))
    second = PairEvidence(np.array([[1, 3], [2, 3]]), np.array([-4, 2]), np.array([2, 1]))
    both = first + second
    assert both.pairs.tolist() == [[1, 2], [1, 3], [2, 3]]
    assert (both.sums.tolist(), both.counts.tolist()) == ([5, -3, 2], [1, 3, 1])


def test_strong_repulsion_keeps_apart_what_weak_attraction_joins():
    pairs = np.array([[1, 2], [1, 3], [2, 3]])
    said = PairEvidence(pairs, np.array([UNIT, -UNIT // 2, UNIT // 4]), np.ones(3, np.int64))
    assert join_fragments(said, 3).tolist() == [0, 1, 1, 2]


def test_no_evidence_leaves_all_fragments():
    none = PairEvidence(np.zeros((0, 2), np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert join_fragments(none, 2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("offsets", [NEAR, [*NEAR, (0, -3), (3, 0)]])
def test_single_voxels_of_two_instances(offsets):
    truth = np.zeros((5, 9), np.int32)
    truth[1:4, 1:4], truth[1:4, 4:8] = 1, 2
    affinities = np.zeros((len(offsets), 5, 9), np.float32)
    for n, offset in enumerate(offsets):
        for place in itertools.product(range(5), range(9)):
            other = tuple(p + o for p, o in zip(place, offset, strict=True))
            if all(0 <= p < s for p, s in zip(other, truth.shape, strict=True)):
                affinities[(n, *place)] = truth[place] > 0 and truth[place] == truth[other]
    found = label_voxels(affinities, offsets, truth > 0)
    np.testing.assert_array_equal(found > 0, truth > 0)
    assert len(np.unique(found[truth == 1])) == len(np.unique(found[truth == 2])) == 1
    assert len(np.unique(found)) == 3
