"""Post-processing of instances that do not fit in memory: as in memory, block by block, on disk.

Memory is that of a few blocks, of one bounding box where instances are measured, of the planes
between blocks while components are joined, and some words per instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instaseg.blockwise.grid import BlockGrid
from instaseg.geometry import Coordinate
from instaseg.io.arrays import ScratchArray, new_array, scratch_array
from instaseg.io.text import write_text
from instaseg.postprocess.channel import Target, check_shape
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.filters import Report
from instaseg.postprocess.pipeline import Place, process
from instaseg.postprocess.scene import Scene, Source


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
        if report.names:
            write_text(self.table, report.to_csv())
        else:
            self.table.unlink(missing_ok=True)


def postprocess_blocks(
    instances: Source,
    settings: PostprocessingSettings,
    scene: Scene,
    *,
    block_shape: Coordinate,
    output: Output,
) -> None:
    """Repair instances as :func:`instaseg.postprocess.repair.postprocess` does, block by block.

    Parameters
    ----------
    instances : Source
        ``([z,] y, x)`` or ``(n, [z,] y, x)`` of bool or int, 0 = background. Not changed.
    settings : PostprocessingSettings
        What is done.
    scene : Scene
        Voxel size, and what some steps need beside the instances.
    block_shape : tuple of int
        Largest part that is in memory at once, in voxels; it does not change the result.
    output : Output
        Where the result is written; the array appears when it is complete, after the table.

    Raises
    ------
    DataError
        For float or negative labels, another number of axes, what a step cannot do, or a full disk.
    """
    shape = tuple(instances.shape)
    check_shape(shape, np.dtype(instances.dtype), scene.ndim)

    @contextmanager
    def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[ScratchArray]:
        key = f"{output.key}_{name}"
        with scratch_array(output.path, key, shape=shape, dtype=dtype) as array:
            yield array

    @contextmanager
    def result(dtype: np.dtype[Any]) -> Iterator[Target]:
        with new_array(
            output.path, output.key, shape=shape, dtype=dtype, attributes=output.attributes
        ) as array:
            yield array

    blocks = BlockGrid(shape[-scene.ndim :], block_shape)
    place = Place(blocks, scratch, result, output.write_table)
    process(instances, settings, scene=scene, place=place)
