"""One sample from its prediction to instances: whole as a task for any process, or in blocks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from instaseg.blockwise.scheduler import Pool
from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork, Run
from instaseg.errors import DataError
from instaseg.geometry import Coordinate
from instaseg.io.arrays import array_attributes, has_array, new_array, open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.methods.base import Decode, Device, Head
from instaseg.methods.build import MethodSpec
from instaseg.run.fingerprint import fingerprint
from instaseg.settings import Table

logger = logging.getLogger(__name__)

INSTANCES = "vote_instances"
REPAIRED = "instances"


@dataclass(frozen=True)
class LabelTask:
    """What :func:`label_sample` needs.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    prediction, output : Path
        Zarr folders that are read and written.
    method : MethodSpec
        What turns predictions into instances.
    parameters : Table
        Table ``[vote_instances]``.
    fingerprint : str
        Kept with the result.
    decode : callable, optional
        Decoder, for methods with codes.
    device : {"cpu", "cuda"}
        Where heavy steps run.
    """

    sample: str
    prediction: Path
    output: Path
    method: MethodSpec
    parameters: Table
    fingerprint: str
    decode: Decode | None = None
    device: Device = "cpu"

    def __str__(self) -> str:
        return f"sample {self.sample}"


def label_sample(task: LabelTask) -> None:
    """Read a prediction, label it and write the instances."""
    method = task.method.build()
    prediction = read_prediction(task.prediction, method.labelled_heads)
    labelled = method.label(prediction, [task.parameters], decode=task.decode, device=task.device)
    (instances,) = labelled
    write_array(task.output, INSTANCES, instances, attributes={"fingerprint": task.fingerprint})


def block_shape_of(task: LabelTask, wanted: Coordinate | None) -> Coordinate | None:
    """Return the blocks in which a sample is labelled; None where it is labelled as a whole.

    Parameters
    ----------
    task : LabelTask
        Its prediction exists.
    wanted : tuple of int, optional
        What the configuration says; left out, the method decides by the size of the prediction.
    """
    method = task.method.build()
    shape = open_array(task.prediction, method.labelled_heads[0].key).shape[1:]
    if wanted is None:
        return method.block_shape(shape)
    return None if all(b >= n for b, n in zip(wanted, shape, strict=True)) else wanted


def label_in_blocks(task: LabelTask, block_shape: Coordinate, pool: Pool) -> None:
    """Label a sample block by block; results of blocks are kept until all of it is written."""
    method = task.method.build()
    store = open_store(
        task.output.with_suffix(".blocks"), fingerprint("blocks", task.fingerprint, block_shape)
    )
    run = run_in(pool, f"label {task.sample}")
    work = BlockWork(block_shape, store, run, task.device)
    labels = method.label_blocks(task.prediction, task.parameters, work, decode=task.decode)
    channels = (1,) * (len(labels.shape) - len(block_shape))
    chunks = tuple(min(b, n) for b, n in zip((*channels, *block_shape), labels.shape, strict=True))
    attributes = {"fingerprint": task.fingerprint}
    with new_array(
        task.output,
        INSTANCES,
        shape=labels.shape,
        dtype="int32",
        chunks=chunks,
        attributes=attributes,
    ) as writer:
        for place, values in labels.parts():
            writer[place] = values
    store.remove()


def run_in(pool: Pool, description: str) -> Run:
    """Return what runs tasks in a pool, under a description that begins with `description`."""
    return lambda function, tasks, step: pool.run(
        function, tasks, description=f"{description}: {step}"
    )


def read_prediction(path: Path, heads: Sequence[Head]) -> dict[str, NDArray[Any]]:
    """Return the predicted heads of a sample, by name, as they are stored."""
    return {head.name: read_whole(open_array(path, head.key)) for head in heads}


def stored_fingerprint(path: Path, key: str) -> str | None:
    """Return the fingerprint a finished array was written with, None if it is gone or damaged."""
    try:
        found = array_attributes(path, key).get("fingerprint") if has_array(path, key) else None
    except DataError as error:
        logger.warning("%s", error)
        return None
    return None if found is None else str(found)
