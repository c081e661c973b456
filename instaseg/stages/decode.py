"""``--do decode``: patch codes to patches."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instaseg.blockwise.scheduler import run_tasks
from instaseg.geometry import grid, whole
from instaseg.io.arrays import ArrayPlan, forget_parts, open_array, resumed_arrays
from instaseg.methods.base import Decode
from instaseg.methods.build import MethodSpec
from instaseg.run.fingerprint import fingerprint
from instaseg.settings import Table
from instaseg.stages.context import Context
from instaseg.stages.decoding import checkpoint_decoder, decoded_fingerprint, is_decoded
from instaseg.stages.predicting import chunk_shape, require_predictions
from instaseg.stages.selection import select

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodeTask:
    """What :func:`decode_sample` needs.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    prediction : Path
        Zarr folder with the codes, which gets the patches.
    method : MethodSpec
        The method.
    parameters : Table
        Table ``[vote_instances]``: says what is foreground.
    decode : callable
        The decoder.
    fingerprint : str
        Kept with the result.
    """

    sample: str
    prediction: Path
    method: MethodSpec
    parameters: Table
    decode: Decode
    fingerprint: str

    def __str__(self) -> str:
        return f"sample {self.sample}"


def run(context: Context) -> None:
    """Decode the foreground of every predicted test sample that has no current patches."""
    coding, names = context.method.coding, ", ".join(head.key for head in context.method.heads)
    if coding is None:
        logger.info("decode: this setup has no codes (its heads are %s); nothing to do", names)
        return
    if coding.decodes_in == "label":
        logger.info("decode: left to label, which decodes block by block (method.code.decode)")
        return
    dataset, selection = context.dataset("test"), select(context)
    overwrite = context.options.existing == "overwrite"
    missing = [
        sample
        for sample in dataset.samples
        if overwrite or not is_decoded(context, dataset, sample, selection)
    ]
    if len(missing) < len(dataset.samples):
        done = len(dataset.samples) - len(missing)
        logger.info("decode: %d of %d samples done, skipped", done, len(dataset.samples))
    require_predictions(context, dataset, selection.checkpoint, [sample.name for sample in missing])
    decode = checkpoint_decoder(context, selection.checkpoint)
    assert decode is not None  # the method has codes
    tasks = [
        DecodeTask(
            sample=sample.name,
            prediction=context.experiment.prediction(
                dataset.name, selection.checkpoint, sample.name
            ),
            method=context.method_spec,
            parameters=selection.parameters.labelling,
            decode=decode,
            fingerprint=decoded_fingerprint(context, sample, selection),
        )
        for sample in missing
    ]
    if overwrite:
        for task in tasks:
            forget_parts(task.prediction)
    run_tasks(decode_sample, tasks, workers=context.workers, description="decode")


def decode_sample(task: DecodeTask) -> None:
    """Decode the foreground of a sample chunk by chunk, those an earlier run has not decoded.

    The patches appear when all is done.
    """
    method = task.method.build()
    coding = method.coding
    assert coding is not None  # else there is no task
    readers = {head.name: open_array(task.prediction, head.key) for head in method.heads}
    codes = readers[method.heads[0].name]
    space = codes.shape[1:]
    channels = coding.decoded.channels
    chunks = chunk_shape(channels, (codes.chunks or codes.shape)[1:])
    plan = ArrayPlan(
        coding.decoded.key,
        (channels, *space),
        np.dtype(codes.dtype),
        chunks,
        {**codes.attributes, "fingerprint": task.fingerprint},
    )
    made_from = fingerprint(task.fingerprint, list(chunks))
    with resumed_arrays(task.prediction, [plan], made_from) as ((writer,), done):
        if len(done):
            logger.info("decode: sample %s goes on after %d chunks", task.sample, len(done))
        for number, box in enumerate(grid(whole(space), chunks[1:])):
            if number in done:
                continue
            part = {
                name: reader[(slice(0, reader.shape[0]), *box.slices)]
                for name, reader in readers.items()
            }
            patches = coding.decode(part, [task.parameters], task.decode)
            writer[(slice(None), *box.slices)] = patches
            done.update([number])
