"""Snapshots: what the network saw and said, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from instaseg.io.arrays import write_array
from instaseg.methods.base import Head
from instaseg.models.network import activate


class SnapshotWriter:
    """Writes the first crop of a batch and its prediction to ``<folder>/<iteration>.zarr``.

    Parameters
    ----------
    folder : Path
        Where snapshots go.
    heads : sequence of Head
        Outputs of the network, written under their keys as float16.
    """

    def __init__(self, folder: Path, heads: Sequence[Head]) -> None:
        self._folder = folder
        self._heads = heads

    def __call__(
        self, iteration: int, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        """Write one snapshot.

        Parameters
        ----------
        iteration : int
            Its name.
        batch : mapping of str to Tensor
            ``raw`` and targets, ``(B, ...)``; written as ``volumes/<name>``.
        outputs : mapping of str to Tensor
            Logits ``(B, channels, [z,] y, x)`` by head name.

        Raises
        ------
        DataError
            If the disk is full.
        """
        path = self._folder / f"{iteration:08d}.zarr"
        images = {name: tensor for name, tensor in batch.items() if tensor.ndim > 2}
        for name, tensor in images.items():
            write_array(path, f"volumes/{name}", tensor[0].detach().cpu().numpy())
        for head in self._heads:
            prediction = activate(head, outputs[head.name][:1].detach())[0]
            write_array(path, head.key, prediction.cpu().numpy().astype(np.float16))
