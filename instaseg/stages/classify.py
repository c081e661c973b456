"""``--do classify``: of which class each instance is, by a vote of its voxels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instaseg.blockwise.scheduler import run_tasks
from instaseg.errors import StageError
from instaseg.geometry import Box, grid, whole
from instaseg.io.arrays import open_array, write_array
from instaseg.io.samples import Sample
from instaseg.methods.build import MethodSpec
from instaseg.postprocess.votes import Ballot, added, count_votes
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.missing import skip_done
from instaseg.stages.postprocess import (
    finished_fingerprint,
    finished_key,
    instances_path,
    require_instances,
)
from instaseg.stages.predicting import require_predictions
from instaseg.stages.selection import Selection, select
from instaseg.stages.sizes import BLOCK_SHAPES
from instaseg.stages.stored import method_at, stored_fingerprint
from instaseg.stages.voting import classes_key, predicted_votes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassifyTask:
    """The instances of one sample that vote.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    path : Path
        Zarr folder of the instances, which gets the votes.
    key : str
        Their array.
    prediction : Path
        Zarr folder of the predicted heads.
    method : MethodSpec
        What predicted them.
    fingerprint : str
        Kept with the result.
    """

    sample: str
    path: Path
    key: str
    prediction: Path
    method: MethodSpec
    fingerprint: str

    @property
    def is_done(self) -> bool:
        """Whether the votes are there, of what they would be of now."""
        return stored_fingerprint(self.path, classes_key(self.key)) == self.fingerprint


@dataclass(frozen=True)
class BlockVote:
    """The votes in one block."""

    task: ClassifyTask
    box: Box

    def __str__(self) -> str:
        return f"sample {self.task.sample}"


def run(context: Context) -> None:
    """Let the instances of every test sample vote, the repaired ones where these are current."""
    if context.method.instance_classes == 0:
        logger.info("classify: instances have no classes in this setup; nothing to do")
        return
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    tasks = [classify_task(context, dataset, sample, selection) for sample in dataset.samples]
    missing = skip_done(
        context, tasks, lambda task: task.is_done, words="classify: %d of %d samples done, skipped"
    )
    names = [task.sample for task in missing]
    require_predictions(context, dataset, selection.checkpoint, names)
    blocks = [block for task in missing for block in _blocks(context, task)]
    ballots = run_tasks(count_block, blocks, workers=context.workers, description="classify")
    count = context.method.instance_classes
    for task in missing:
        own = [b for block, b in zip(blocks, ballots, strict=True) if block.task is task]
        _write(task, own, count)


def classify_task(
    context: Context, dataset: Dataset, sample: Sample, selection: Selection
) -> ClassifyTask:
    """Return what lets the instances of a sample vote, with the fingerprint the votes get."""
    path = instances_path(context, dataset, sample, selection)
    key = finished_key(context, sample, path, selection)
    made_from = finished_fingerprint(context, sample, selection, key)
    return ClassifyTask(
        sample=sample.name,
        path=path,
        key=key,
        prediction=context.experiment.prediction(dataset.name, selection.checkpoint, sample.name),
        method=context.method_spec,
        fingerprint=fingerprint("classify", made_from),
    )


def require_classes(context: Context, dataset: Dataset, selection: Selection) -> None:
    """Check that the instances of samples have voted, where they have classes.

    Raises
    ------
    StageError
        If some have not, since they were labelled or repaired; lists them.
    """
    if context.method.instance_classes == 0:
        return
    tasks = [classify_task(context, dataset, sample, selection) for sample in dataset.samples]
    lacking = [task.sample for task in tasks if not task.is_done]
    if lacking:
        raise StageError(
            f"expected classes of the present instances for every sample of {dataset.name}; none"
            f" for {', '.join(lacking[:10])}; run classify first"
        )


def count_block(block: BlockVote) -> Ballot:
    """Return the votes of the instances in a block."""
    task, box = block.task, block.box
    instances = open_array(task.path, task.key)
    lead = tuple(slice(0, n) for n in instances.shape[: -len(box.begin)])
    votes = predicted_votes(task.prediction, method_at(task.method, task.prediction))
    return count_votes(instances[(*lead, *box.slices)], votes(box), len(box.begin))


def _blocks(context: Context, task: ClassifyTask) -> list[BlockVote]:
    ndim = context.config.data.ndim
    space = open_array(task.path, task.key).shape[-ndim:]
    shape = context.config.general.block_shape or BLOCK_SHAPES[ndim]
    return [BlockVote(task, box) for box in grid(whole(space), shape)]


def _write(task: ClassifyTask, ballots: Sequence[Ballot], count: int) -> None:
    table = added(ballots, count).table.astype(np.int64)
    attributes = {"fingerprint": task.fingerprint, "columns": "channel label votes_1 ..."}
    write_array(task.path, classes_key(task.key), table, attributes=attributes)
