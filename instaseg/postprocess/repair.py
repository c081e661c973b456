"""Post-processing of instances in memory: debris, holes, small ones, numbering, and more.

Instances are label images ``([z,] y, x)`` or instance channels ``(n, [z,] y, x)``, told apart by
the number of spatial axes. Every non-zero label of every channel is one instance. What is passed in
is never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.memory import MemoryStore, run_here
from instaseg.postprocess.channel import Labels, WorkArray
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.filters import Report
from instaseg.postprocess.pipeline import Place, process
from instaseg.postprocess.scene import Scene


def postprocess(instances: Labels, settings: PostprocessingSettings, scene: Scene) -> Labels:
    """Repair instances as `settings` says, in the order of :func:`pipeline.process`.

    Parameters
    ----------
    instances : ndarray of bool or int, ([z,] y, x) or (n, [z,] y, x)
        Instances, 0 = background. Not changed.
    settings : PostprocessingSettings
        What is done.
    scene : Scene
        Voxel size, and what some steps need beside the instances.

    Returns
    -------
    ndarray
        Same shape; same dtype unless the new numbers need a larger one.

    Raises
    ------
    DataError
        For float or negative labels, another number of axes, and what a step cannot do.

    Examples
    --------
    >>> labels = np.array([[7, 7, 0, 0, 4]])
    >>> postprocess(labels, PostprocessingSettings(remove_small_comps=1), Scene((1.0, 1.0)))
    array([[1, 1, 0, 0, 0]])
    """
    return postprocess_and_report(instances, settings, scene)[0]


def postprocess_and_report(
    instances: Labels, settings: PostprocessingSettings, scene: Scene
) -> tuple[Labels, Report]:
    """Return repaired instances, see :func:`postprocess`, and what was measured and removed."""
    results: list[NDArray[Any]] = []
    reports: list[Report] = []

    @contextmanager
    def result(dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        results.append(np.zeros(instances.shape, dtype))
        yield results[-1]

    space = instances.shape[-scene.ndim :]
    blocks = BlockGrid(space, tuple(max(n, 1) for n in space))
    place = Place(blocks, MemoryStore(), run_here, _array, result, reports.append)
    process(instances, settings, scene=scene, place=place)
    return results[0], reports[0]


@contextmanager
def _array(_: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[WorkArray]:
    """Give an array of zeros in memory."""
    yield np.zeros(shape, dtype)
