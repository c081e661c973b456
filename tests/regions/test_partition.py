"""Partition of graphs small enough to see the answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.methods.patches import numpy_ref
from instaseg.methods.patches.config import LabelSettings
from instaseg.regions.partition import Graph, partition


def graph_of(nodes, edges):
    pairs = np.array(sorted(edges), dtype=np.int64).reshape(-1, 2)
    return Graph(
        nodes, pairs, np.array([edges[tuple(e)] for e in pairs.tolist()], dtype=np.float64)
    )


#     0 --.9-- 1 --.4-- 2      and 0 --(-.6)-- 2, 3 on its own
CHAIN = {(0, 1): 0.9, (1, 2): 0.4, (0, 2): -0.6}


@pytest.mark.parametrize(
    ("how", "single", "expected"),
    [
        pytest.param("components", "keep", [1, 1, 1, 2], id="components do not see the repulsion"),
        pytest.param("mutex", "keep", [1, 1, 2, 3], id="the repulsion is stronger than .4"),
        pytest.param("components", "drop", [1, 1, 1, 0], id="3 is dropped"),
        pytest.param("mutex", "drop", [1, 1, 0, 0], id="2 and 3 are dropped"),
    ],
)
def test_chain(how, single, expected):
    assert partition(graph_of(4, CHAIN), how=how, singles=single).tolist() == expected


def test_ties_are_taken_in_the_order_of_their_nodes():
    # (0, 1) forbids before (0, 2) and (1, 2) merge; then 2 goes to 0, and 1 is refused.
    assert partition(
        graph_of(3, {(0, 1): -0.5, (0, 2): 0.5, (1, 2): 0.5}), how="mutex"
    ).tolist() == [1, 2, 1]
    # here (0, 1) and (0, 2) merge first, and (1, 2) comes too late to forbid
    assert partition(
        graph_of(3, {(0, 1): 0.5, (0, 2): 0.5, (1, 2): -0.5}), how="mutex"
    ).tolist() == [1, 1, 1]


def test_no_nodes():
    assert partition(graph_of(0, {})).tolist() == []
    assert partition(graph_of(2, {}), how="mutex").tolist() == [1, 2]


@given(data=st.data(), nodes=st.integers(1, 8), how=st.sampled_from(["components", "mutex"]))
@settings(max_examples=60)
def test_equals_plain_version(data, nodes, how):
    pairs = [(i, j) for i in range(nodes) for j in range(i + 1, nodes)]
    chosen = data.draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    edges = {pair: data.draw(st.integers(-4, 4)) / 4 for pair in sorted(chosen)}
    found = partition(graph_of(nodes, edges), how=how)
    assert found.tolist() == numpy_ref.partition(nodes, edges, LabelSettings(partition=how))
