"""Post-processing of instances that do not fit in memory: as in memory, block by block, on disk.

Memory is that of a few blocks, of one bounding box where instances are measured, of the planes
between blocks while components are joined, and some words per instance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.work import BlockWork
from instaseg.geometry import Coordinate
from instaseg.io.arrays import (
    ArraySource,
    ScratchArray,
    delete_array,
    has_array,
    new_array,
    scratch_array,
)
from instaseg.io.text import write_text
from instaseg.postprocess.channel import Target, check_shape
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.filters import Report
from instaseg.postprocess.pipeline import Place, process
from instaseg.postprocess.scene import Scene

MOST_VOXELS = 1 << 21
"""Voxels of a chunk of the result."""


@dataclass(frozen=True)
class Output:
    """What is written.

    Parameters
    ----------
    path : Path
        Zarr folder.
    key : str
        The array of the result in it.
    attributes : dict
        Its metadata.
    table : Path, optional
        CSV file of all instances, written where something is measured.
    """

    path: Path
    key: str
    attributes: Mapping[str, Any]
    table: Path | None = None

    def write_table(self, report: Report) -> None:
        """Write the table, or delete one of an earlier run where nothing is measured."""
        if self.table is None:
            return
        if report.names or self.table.is_file():
            # if the run ends here, an older array must not stand beside a table that is not its own
            self._forget()
        if report.names:
            write_text(self.table, report.to_csv())
        else:
            self.table.unlink(missing_ok=True)

    def _forget(self) -> None:
        if self.path.is_dir() and has_array(self.path, self.key):
            delete_array(self.path, self.key)


def postprocess_blocks(
    instances: ArraySource,
    settings: PostprocessingSettings,
    scene: Scene,
    *,
    work: BlockWork,
    output: Output,
) -> None:
    """Repair instances as :func:`instaseg.postprocess.repair.postprocess` does, block by block.

    Parameters
    ----------
    instances : ArraySource
        ``([z,] y, x)`` or ``(n, [z,] y, x)`` of bool or int, 0 = background. Not changed.
    settings : PostprocessingSettings
        What is done.
    scene : Scene
        Voxel size, and what some steps need beside the instances.
    work : BlockWork
        Largest part that is in memory at once, in voxels, which does not change the result; where
        finished blocks are kept, for a run that goes on where this one ends; what runs blocks.
    output : Output
        Where the result is written; the array appears when it is complete, after the table.

    Raises
    ------
    DataError
        For float or negative labels, another number of axes, what a step cannot do, or a full disk.
    """
    shape = tuple(instances.shape)
    check_shape(shape, np.dtype(instances.dtype), scene.ndim)
    lead = (1,) * (len(shape) - scene.ndim)

    @contextmanager
    def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[ScratchArray]:
        key = f"{output.key}_{name}"
        with scratch_array(output.path, key, shape=shape, dtype=dtype) as array:
            yield array

    @contextmanager
    def result(dtype: np.dtype[Any]) -> Iterator[Target]:
        chunks = (*lead, *chunks_of_blocks(work.block_shape, shape[-scene.ndim :]))
        with new_array(
            output.path,
            output.key,
            shape=shape,
            dtype=dtype,
            chunks=chunks,
            attributes=output.attributes,
        ) as array:
            yield array

    blocks = BlockGrid(shape[-scene.ndim :], tuple(work.block_shape))
    place = Place(blocks, work.store, work.run, scratch, result, output.write_table)
    process(instances, settings, scene=scene, place=place)


def chunks_of_blocks(block_shape: Coordinate, shape: Coordinate) -> Coordinate:
    """Return chunks that blocks are made of, of about two million voxels at most.

    Examples
    --------
    >>> chunks_of_blocks((256, 256, 256), (100, 1000, 1000))
    (100, 128, 128)
    """
    chunks = [min(b, n) for b, n in zip(block_shape, shape, strict=True)]
    # along an axis of one block any chunk will do
    free = [b >= n for b, n in zip(block_shape, shape, strict=True)]
    while math.prod(chunks) > MOST_VOXELS:
        halved = [a for a, n in enumerate(chunks) if n > 1 and (free[a] or n % 2 == 0)]
        if not halved:
            break
        longest = max(halved, key=lambda a: chunks[a])
        chunks[longest] = -(-chunks[longest] // 2)
    return tuple(max(n, 1) for n in chunks)
