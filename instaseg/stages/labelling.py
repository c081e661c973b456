"""One sample from its prediction to instances, as a task for any process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.io.arrays import array_attributes, has_array, open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.methods.base import Head
from instaseg.methods.build import MethodSpec
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
    """

    sample: str
    prediction: Path
    output: Path
    method: MethodSpec
    parameters: Table
    fingerprint: str

    def __str__(self) -> str:
        return f"sample {self.sample}"


def label_sample(task: LabelTask) -> None:
    """Read a prediction, label it and write the instances."""
    method = task.method.build()
    prediction = read_prediction(task.prediction, method.heads)
    (instances,) = method.label(prediction, [task.parameters])
    write_array(task.output, INSTANCES, instances, attributes={"fingerprint": task.fingerprint})


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
