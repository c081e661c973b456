"""Step 4: drop selected patches that a greedy set cover does not need."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from instaseg.methods.patches import bits
from instaseg.methods.patches.offsets import Window


def thin_out(
    patches: NDArray[np.uint64],
    positions: NDArray[np.int64],
    *,
    mask: NDArray[np.bool_],
    window: Window,
) -> NDArray[np.int64]:
    """Keep the patch that covers most of what is left, again and again, until nothing is gained.

    What a patch would add only shrinks, so an entry of the queue that is still the best after its
    count is renewed is the best of all. Ties go to the patch that comes first.

    Parameters
    ----------
    patches : (n, words) uint64
        Voxels each selected patch covers.
    positions : (n, 3) int64
        Centres in voxels, in the order of selection.
    mask : (z, y, x) bool
        What is to be covered.
    window : Window
        The patch.

    Returns
    -------
    (m,) int64
        Indices of the patches kept, ascending.
    """
    words, left = bits.lines(window), bits.pack_mask(mask)
    corners = positions - np.array(window.radius)
    queue = [(-bits.covered(patches[i], corners[i], words, left), i) for i in range(len(positions))]
    heapq.heapify(queue)
    kept = []
    while queue:
        i = queue[0][1]
        gain = bits.covered(patches[i], corners[i], words, left)
        if gain == 0:
            heapq.heappop(queue)
            continue
        heapq.heapreplace(queue, (-gain, i))
        if queue[0] == (-gain, i):
            heapq.heappop(queue)
            bits.clear(patches[i], corners[i], words, left)
            kept.append(i)
    return np.array(sorted(kept), dtype=np.int64)
