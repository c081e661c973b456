"""What is worked on at once and what in blocks, and tasks on samples of both sizes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from instaseg.blockwise.scheduler import Pool
from instaseg.blockwise.work import Run
from instaseg.errors import InstasegError, StageError
from instaseg.geometry import Coordinate
from instaseg.io.arrays import open_array
from instaseg.methods.base import Method
from instaseg.methods.build import MethodSpec
from instaseg.stages.stored import method_at

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1 << 27
"""Voxels of an image or of instances, of all channels together, up to which all are in memory."""

BLOCK_SHAPES = {2: (4096, 4096), 3: (256, 256, 256)}
"""Blocks of larger ones by number of axes: whole chunks of the files."""


class OnPrediction(Protocol):
    """A task on the stored prediction of one sample."""

    @property
    def prediction(self) -> Path:
        """Zarr folder of the predicted heads."""

    @property
    def method(self) -> MethodSpec:
        """What predicted them."""


TaskT = TypeVar("TaskT")


def blocks_if_large(
    shape: Sequence[int], ndim: int, wanted: Coordinate | None
) -> Coordinate | None:
    """Return the blocks in which labels or channels of a shape are worked on; None if at once.

    Parameters
    ----------
    shape : sequence of int
        ``([z,] y, x)`` or ``(n, [z,] y, x)``.
    ndim : {2, 3}
        Number of spatial axes.
    wanted : tuple of int, optional
        Blocks as configured, for what is larger; left out, those of large images.
    """
    if wanted is not None:
        larger = any(n > b for n, b in zip(shape[-ndim:], wanted, strict=True))
        return wanted if larger else None
    return BLOCK_SHAPES[ndim] if math.prod(shape) > MOST_AT_ONCE else None


def blocks_of_prediction(task: OnPrediction, *, wanted: Coordinate | None) -> Coordinate | None:
    """Return the blocks in which a stored prediction is labelled; None where it is whole.

    Parameters
    ----------
    task : OnPrediction
        Its prediction exists.
    wanted : tuple of int, optional
        What the configuration says; left out, the method decides by the size of the prediction.
    """
    method = method_at(task.method, task.prediction)
    shape = open_array(task.prediction, method.labelled_heads[0].key).shape[1:]
    return blocks_of(method, shape, wanted)


def blocks_of(method: Method, shape: Sequence[int], wanted: Coordinate | None) -> Coordinate | None:
    """Return the blocks in which a prediction of a shape is labelled; None where it is whole.

    Parameters
    ----------
    method : Method
        Decides by the shape where nothing is configured.
    shape : sequence of int
        ``([z,] y, x)`` in voxels.
    wanted : tuple of int, optional
        What the configuration says.
    """
    if wanted is None:
        return method.block_shape(shape)
    return None if all(b >= n for b, n in zip(wanted, shape, strict=True)) else wanted


def run_by_size(
    pool: Pool,
    tasks: Sequence[TaskT],
    block_shape: Callable[[TaskT], Coordinate | None],
    *,
    whole: Callable[[TaskT], None],
    in_blocks: Callable[[TaskT, Coordinate, Pool], None],
    description: str,
) -> None:
    """Do tasks on samples: those that fit in memory as tasks, the others one by one in blocks.

    Parameters
    ----------
    pool : Pool
        Where they run.
    tasks : sequence
        One for each sample.
    block_shape : callable
        The blocks a task is done in; None where it fits in memory.
    whole : callable
        Does a task at once, in any process.
    in_blocks : callable
        Does a task in blocks, which run in the pool.
    description : str
        For messages.

    Raises
    ------
    StageError
        If samples failed; the others are finished.
    """
    blocks = [block_shape(task) for task in tasks]
    failures = []
    try:
        at_once = [task for task, block in zip(tasks, blocks, strict=True) if block is None]
        pool.run(whole, at_once, description=description)
    except StageError as error:
        failures.append(str(error))
    for task, block in zip(tasks, blocks, strict=True):
        if block is None:
            continue
        logger.info("%s: %s in blocks of %s voxels", description, task, list(block))
        try:
            in_blocks(task, block, pool)
        except InstasegError as error:
            failures.append(f"{task}: {error}")
    if failures:
        raise StageError("\n".join(failures))


def run_in(pool: Pool, description: str) -> Run:
    """Return what runs tasks in a pool, under a description that begins with `description`."""
    return lambda function, tasks, step: pool.run(
        function, tasks, description=f"{description}: {step}"
    )
