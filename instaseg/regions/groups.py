"""Groups of things that are linked, by whatever chain of pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def group_linked(pairs: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Return the group of each of some nodes, which are linked in pairs.

    Parameters
    ----------
    pairs : ndarray of int, (n, 2)
        Nodes that are linked, in any order, also more than once.
    count : int
        Number of nodes; may be 0.

    Returns
    -------
    ndarray of int64, (count,)
        Groups 0, 1, 2 ... in the order of their first nodes; a node without a link is one itself.

    Examples
    --------
    >>> group_linked(np.array([[3, 1], [4, 3]]), 5).tolist()
    [0, 1, 2, 1, 1]
    """
    if count == 0:
        return np.zeros(0, np.int64)
    links = (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1]))
    _, group = connected_components(coo_array(links, (count, count)), directed=False)
    return np.asarray(group, dtype=np.int64)
