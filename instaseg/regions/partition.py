"""Graphs whose edges attract and repel, cut into instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.regions.groups import group_linked


@dataclass(frozen=True)
class Graph:
    """Pieces of instances, and how much pairs of them belong together.

    Parameters
    ----------
    nodes : int
        Number of pieces.
    edges : (m, 2) int64
        Pairs of pieces ``a < b``, in lexicographic order.
    strengths : (m,) float64
        Positive attracts, negative repels.
    """

    nodes: int
    edges: NDArray[np.int64]
    strengths: NDArray[np.float64]


def partition(
    graph: Graph,
    *,
    how: Literal["components", "mutex"] = "components",
    singles: Literal["keep", "drop"] = "keep",
) -> NDArray[np.int64]:
    """Return the instance of every node.

    Parameters
    ----------
    graph : Graph
        Nodes, and what is known of pairs.
    how : {"components", "mutex"}
        Connected components over edges above 0, or mutex watershed: edges by descending
        ``|strength|``, an attractive one merges unless forbidden, a repulsive one forbids. Edges
        of equal strength are taken in lexicographic order of their nodes; edges of 0 say nothing.
    singles : {"keep", "drop"}
        Whether a node on its own is an instance.

    Returns
    -------
    (nodes,) int64
        1, 2, ... in the order of each instance's first node; 0 where dropped.

    References
    ----------
    Wolf et al., The Mutex Watershed and its Objective, https://arxiv.org/abs/1904.12654

    Examples
    --------
    >>> graph = Graph(3, np.array([[0, 1], [0, 2], [1, 2]]), np.array([0.9, -0.6, 0.4]))
    >>> partition(graph).tolist(), partition(graph, how="mutex").tolist()
    ([1, 1, 1], [1, 1, 2])
    """
    if graph.nodes == 0:
        return np.zeros(0, dtype=np.int64)
    groups = _components(graph) if how == "components" else _mutex(graph)
    size = np.bincount(groups)
    if singles == "drop":
        groups = np.where(size[groups] > 1, groups, -1)
    return _number_by_first(groups)


def _components(graph: Graph) -> NDArray[np.int64]:
    return group_linked(graph.edges[graph.strengths > 0], graph.nodes)


def _mutex(graph: Graph) -> NDArray[np.int64]:
    from bioimage_cpp.graph import UndirectedGraph, mutex_watershed

    # edges come in lexicographic order, which decides between equal ones
    order = np.argsort(-np.abs(graph.strengths), kind="stable")
    # strengths become ranks, all different, so that no tie is left to the library's sort
    rank = np.empty(len(order), dtype=np.float64)
    rank[order] = np.arange(len(order), 0, -1)
    attract, repel = graph.strengths > 0, graph.strengths < 0
    base = UndirectedGraph.from_edges(graph.nodes, graph.edges[attract].astype(np.uint64))
    groups = mutex_watershed.mutex_watershed_clustering(
        base, rank[attract], graph.edges[repel].astype(np.uint64), rank[repel]
    )
    return np.asarray(groups, dtype=np.int64)


def _number_by_first(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber groups from 1 in the order of their first member; negative ones become 0."""
    kept = np.flatnonzero(groups >= 0)
    found, first, inverse = np.unique(groups[kept], return_index=True, return_inverse=True)
    number = np.empty(len(found), dtype=np.int64)
    number[np.argsort(first)] = np.arange(1, len(found) + 1)
    out = np.zeros_like(groups)
    out[kept] = number[inverse]
    return out
