"""``--do postprocess``: repaired instances beside the labelled ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from instaseg.blockwise.scheduler import run_tasks
from instaseg.errors import StageError
from instaseg.geometry import Coordinate
from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import Sample, read_whole
from instaseg.postprocess.blocks import Target, postprocess_blocks
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.label import instances_fingerprint
from instaseg.stages.labelling import INSTANCES, REPAIRED, stored_fingerprint
from instaseg.stages.selection import Selection, select

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 1 << 27
"""Voxels of instances, of all channels together, up to which all are in memory at once."""

BLOCK_SHAPES = {2: (4096, 4096), 3: (256, 256, 256)}
"""Blocks of larger ones by number of axes: whole chunks of the files."""


@dataclass(frozen=True)
class RepairTask:
    """What :func:`repair_sample` needs.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    path : Path
        Zarr folder that is read and written.
    settings : PostprocessingSettings
        What is done.
    ndim : int
        Number of spatial axes.
    fingerprint : str
        Kept with the result.
    block_shape : tuple of int, optional
        What is worked on at once where the instances are larger than that. Without it, large
        volumes are cut into blocks of `BLOCK_SHAPES`. The result is the same.
    """

    sample: str
    path: Path
    settings: PostprocessingSettings
    ndim: int
    fingerprint: str
    block_shape: Coordinate | None = None

    def __str__(self) -> str:
        return f"sample {self.sample}"


def run(context: Context) -> None:
    """Repair the instances of every test sample that has no current repaired ones."""
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    tasks = [_task(context, dataset, sample, selection) for sample in dataset.samples]
    overwrite = context.options.existing == "overwrite"
    missing = [
        task
        for task in tasks
        if overwrite or stored_fingerprint(task.path, REPAIRED) != task.fingerprint
    ]
    if len(missing) < len(tasks):
        logger.info(
            "postprocess: %d of %d samples done, skipped", len(tasks) - len(missing), len(tasks)
        )
    run_tasks(repair_sample, missing, workers=context.workers, description="postprocess")


def repair_sample(task: RepairTask) -> None:
    """Repair instances and write the result beside them: at once, or block by block if large."""
    instances = open_array(task.path, INSTANCES)
    attributes = {"fingerprint": task.fingerprint}
    block_shape = _block_shape(instances.shape, task)
    if block_shape is None:
        repaired = postprocess(read_whole(instances), task.settings, ndim=task.ndim)
        write_array(task.path, REPAIRED, repaired, attributes=attributes)
    else:
        target = Target(task.path, REPAIRED, attributes)
        postprocess_blocks(
            instances, task.settings, ndim=task.ndim, block_shape=block_shape, target=target
        )


def _block_shape(shape: Sequence[int], task: RepairTask) -> Coordinate | None:
    """Return the shape of blocks for instances of `shape`, None if they are repaired at once."""
    if task.block_shape is not None:
        larger = any(n > b for n, b in zip(shape[-task.ndim :], task.block_shape, strict=True))
        return task.block_shape if larger else None
    return BLOCK_SHAPES[task.ndim] if math.prod(shape) > MOST_AT_ONCE else None


def repaired_fingerprint(context: Context, sample: Sample, selection: Selection) -> str:
    """Return the fingerprint of the repaired instances a sample should have."""
    labelled = instances_fingerprint(context, sample, selection)
    return fingerprint("postprocess", labelled, selection.parameters.postprocessing)


def require_instances(context: Context, dataset: Dataset, selection: Selection) -> None:
    """Check that samples have current instances.

    Raises
    ------
    StageError
        If some have none, or some from other predictions or parameters; lists them.
    """
    lacking = [
        sample.name
        for sample in dataset.samples
        if stored_fingerprint(instances_path(context, dataset, sample, selection), INSTANCES)
        != instances_fingerprint(context, sample, selection)
    ]
    if lacking:
        raise StageError(
            f"expected instances of checkpoint {selection.checkpoint} with parameters"
            f" {selection.parameters.instances_name} for every sample of {dataset.name}; none with"
            f" the present settings for {', '.join(lacking[:10])}; run label first"
        )


def instances_path(
    context: Context, dataset: Dataset, sample: Sample, selection: Selection
) -> Path:
    """Return the zarr folder of a sample's instances."""
    return context.experiment.instances(
        dataset.name, selection.checkpoint, selection.parameters.instances_name, sample.name
    )


def _task(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> RepairTask:
    return RepairTask(
        sample=sample.name,
        path=instances_path(context, dataset, sample, selection),
        settings=selection.parameters.postprocessing,
        ndim=sample.ndim,
        fingerprint=repaired_fingerprint(context, sample, selection),
        block_shape=context.config.general.block_shape,
    )
