"""Patch graph: one edge by hand, all edges against the plain version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.patches import bits, numpy_ref
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.consensus import Consensus, row_index
from instaseg.methods.patches.offsets import complete, window
from instaseg.methods.patches.patch_graph import patch_graph

# A line of six visible pixels, patches of three; the consensus of neighbours p, p + 1 is given,
# that of p, p + 2 is 0:
#
#     pixel      0    1    2    3    4    5
#     neighbours   8   -2    4    6    2          (in units of the fixed point)
#     patch 1    x    x    x
#     patch 3              x    x    x
#
# Ordered pairs (p in patch 1, q in patch 3) within reach, two pixels: (0,2) 0, (1,2) -2, (1,3) 0,
# (2,3) 4, (2,4) 0; pixel 2 is in both patches, but with itself it is no pair. Mean: 2 / 5.
ROWS = np.zeros((6, 3), dtype=np.int16)
ROWS[:5, 1] = [8, -2, 4, 6, 2]


def line(scale=1.0):
    index = row_index(np.ones((1, 1, 6), dtype=bool))
    return Consensus(ROWS, index, scale, window((1, 3)))


def edges_of(claims, positions, **options):
    chosen = {"distance": 2, "same_patch_weight": 0.2, **options}
    graph = patch_graph(
        line(), np.array(claims, dtype=np.uint64)[:, None], np.array(positions), **chosen
    )
    return {
        tuple(e): a for e, a in zip(graph.edges.tolist(), graph.strengths.tolist(), strict=True)
    }


def test_edge_of_six_pixels():
    assert edges_of([0b111, 0b111], [(0, 0, 1), (0, 0, 3)]) == pytest.approx({(0, 1): 2 / 5})


def test_pairs_in_both_patches_weigh_less():
    # Patches 1 and 2 share pixels 1 and 2: pairs (1,2) and (2,1), -2 each, weigh .2.
    # The others: (0,1) 8, (0,2) 0, (1,3) 0, (2,3) 4; out of reach: (0,3).
    expected = (8 + 4 - 0.2 * 4) / (4 + 0.2 * 2)
    assert edges_of([0b111, 0b111], [(0, 0, 1), (0, 0, 2)]) == pytest.approx({(0, 1): expected})


def test_patches_out_of_reach_share_no_edge():
    assert edges_of([0b001, 0b100], [(0, 0, 1), (0, 0, 4)]) == {}


def test_distance_limits_edges():
    claims = [0b111, 0b111]
    assert edges_of(claims, [(0, 0, 1), (0, 0, 4)], distance=1) != {}
    assert edges_of(claims[:1], [(0, 0, 1)]) == {}


@given(
    seed=st.integers(0, 99),
    world=st.sampled_from([((1, 10, 11), (3, 5)), ((5, 7, 7), (3, 3, 3))]),
    weight=st.sampled_from([0.0, 0.2, 1.0]),
    distance=st.sampled_from([1, 2]),
)
@settings(max_examples=15)
def test_equals_plain_version(seed, world, weight, distance):
    shape, patch_shape = world
    rng = np.random.default_rng(seed)
    patch = window(patch_shape)
    visible = rng.random(shape) < 0.8
    index = row_index(visible)
    rows = rng.integers(-999, 1000, (int(visible.sum()), patch.length), dtype=np.int16)
    votes = np.zeros((visible.size, visible.size))
    for p in np.argwhere(visible):
        for q in np.argwhere(visible):
            if (np.abs(q - p) < np.array(patch.shape)).all() and patch.pair(q - p) > 0:
                a, b = np.ravel_multi_index(p, shape), np.ravel_multi_index(q, shape)
                votes[a, b] = votes[b, a] = rows[index[tuple(p)], patch.pair(q - p)]
    affinities = rng.random((patch.size, *shape), dtype=np.float32)
    centres = np.argwhere(complete(shape, patch.radius))
    centres = centres[rng.permutation(len(centres))[:8]]
    claims = bits.gather_bits(affinities, centres, window=patch, threshold=0.5)
    graph = patch_graph(
        Consensus(rows, index, 1.0, patch),
        claims,
        centres,
        distance=distance,
        same_patch_weight=weight,
    )
    plain = [(numpy_ref.patch_of(affinities, c, patch.shape) > 0.5) & visible for c in centres]
    chosen = LabelSettings(patch_distance=distance, same_patch_weight=weight)
    expected = numpy_ref.patch_graph(votes, plain, centres, patch.shape, chosen)
    assert [tuple(e) for e in graph.edges.tolist()] == list(expected)
    np.testing.assert_allclose(graph.strengths, list(expected.values()), rtol=1e-9, atol=1e-9)
