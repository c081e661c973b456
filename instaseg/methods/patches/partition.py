"""Step 6a: cut the graph of patches into instances."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches.patch_graph import PatchGraph
from instaseg.regions.groups import group_linked


def partition(
    graph: PatchGraph,
    *,
    how: Literal["components", "mutex"] = "components",
    single_patches: Literal["keep", "drop"] = "keep",
) -> NDArray[np.int64]:
    """Return the instance of every patch.

    Parameters
    ----------
    graph : PatchGraph
        Step 5.
    how : {"components", "mutex"}
        Connected components over edges above 0, or mutex watershed: edges by descending
        ``|affinity|``, an attractive one merges unless forbidden, a repulsive one forbids. Edges
        of equal strength are taken in lexicographic order of their patches; edges of 0 say nothing.
    single_patches : {"keep", "drop"}
        Whether a patch on its own is an instance.

    Returns
    -------
    (nodes,) int64
        1, 2, ... in the order of each instance's first (best) patch; 0 where dropped.

    References
    ----------
    Wolf et al., The Mutex Watershed and its Objective, https://arxiv.org/abs/1904.12654
    """
    if graph.nodes == 0:
        return np.zeros(0, dtype=np.int64)
    groups = _components(graph) if how == "components" else _mutex(graph)
    size = np.bincount(groups)
    if single_patches == "drop":
        groups = np.where(size[groups] > 1, groups, -1)
    return _number_by_first(groups)


def _components(graph: PatchGraph) -> NDArray[np.int64]:
    return group_linked(graph.edges[graph.affinities > 0], graph.nodes)


def _mutex(graph: PatchGraph) -> NDArray[np.int64]:
    from bioimage_cpp.graph import UndirectedGraph, mutex_watershed

    # edges come in lexicographic order, which decides between equal ones
    order = np.argsort(-np.abs(graph.affinities), kind="stable")
    # strengths become ranks, all different, so that no tie is left to the library's sort
    strength = np.empty(len(order), dtype=np.float64)
    strength[order] = np.arange(len(order), 0, -1)
    attract, repel = graph.affinities > 0, graph.affinities < 0
    base = UndirectedGraph.from_edges(graph.nodes, graph.edges[attract].astype(np.uint64))
    groups = mutex_watershed.mutex_watershed_clustering(
        base, strength[attract], graph.edges[repel].astype(np.uint64), strength[repel]
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
