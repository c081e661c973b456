"""``--do decode``: patch codes to patches."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instaseg.blockwise.scheduler import Pool
from instaseg.geometry import grid_box, grid_size, whole
from instaseg.io.arrays import ArrayPlan, forget_parts, open_array
from instaseg.io.samples import Sample
from instaseg.methods.base import Decode
from instaseg.methods.build import MethodSpec
from instaseg.run.fingerprint import fingerprint
from instaseg.settings import Table
from instaseg.stages.context import Context, Dataset
from instaseg.stages.decoding import checkpoint_decoder, decoded_fingerprint, is_decoded
from instaseg.stages.missing import skip_done
from instaseg.stages.parts import Parted, PartTask, make_parts
from instaseg.stages.predicting import chunk_shape, require_predictions
from instaseg.stages.selection import Selection, select

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodeWork:
    """What decoding a part of a sample needs.

    Parameters
    ----------
    prediction : Path
        Zarr folder with the codes.
    method : MethodSpec
        The method.
    parameters : Table
        Table ``[vote_instances]``: says what is foreground.
    decode : callable
        The decoder.
    chunks : tuple of int
        Shape ``([z,] y, x)`` of the parts.
    """

    prediction: Path
    method: MethodSpec
    parameters: Table
    decode: Decode
    chunks: tuple[int, ...]


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
    missing = skip_done(
        context,
        dataset.samples,
        lambda sample: is_decoded(context, dataset, sample, selection),
        words="decode: %d of %d samples done, skipped",
    )
    require_predictions(context, dataset, selection.checkpoint, [sample.name for sample in missing])
    decode = checkpoint_decoder(context, selection.checkpoint)
    assert decode is not None  # the method has codes
    samples = [_parted(context, dataset, sample, selection, decode) for sample in missing]
    if context.options.existing == "overwrite":
        for sample in samples:
            forget_parts(sample.path)
    with Pool(context.workers) as pool:
        make_parts(pool, samples, decode_part, description="decode")


def _parted(
    context: Context, dataset: Dataset, sample: Sample, selection: Selection, decode: Decode
) -> Parted[DecodeWork]:
    """Return what is decoded of a sample, and where the patches go."""
    coding, heads = context.method.coding, context.method.heads
    assert coding is not None
    path = context.experiment.prediction(dataset.name, selection.checkpoint, sample.name)
    codes = open_array(path, heads[0].key)
    space, channels = codes.shape[1:], coding.decoded.channels
    chunks = chunk_shape(channels, (codes.chunks or codes.shape)[1:])
    made_from = decoded_fingerprint(context, sample, selection)
    plan = ArrayPlan(
        coding.decoded.key,
        (channels, *space),
        np.dtype(codes.dtype),
        chunks,
        {**codes.attributes, "fingerprint": made_from},
    )
    work = DecodeWork(
        prediction=path,
        method=context.method_spec,
        parameters=selection.parameters.labelling,
        decode=decode,
        chunks=chunks[1:],
    )
    return Parted(
        name=sample.name,
        path=path,
        plans=(plan,),
        made_from=fingerprint(made_from, list(chunks)),
        parts=grid_size(whole(space), chunks[1:]),
        work=work,
    )


def decode_part(task: PartTask[DecodeWork]) -> None:
    """Decode the foreground of one part of a sample, and write it."""
    work = task.work
    method = work.method.build()
    coding = method.coding
    assert coding is not None  # else there is no task
    readers = {head.name: open_array(work.prediction, head.key) for head in method.heads}
    space = readers[method.heads[0].name].shape[1:]
    box = grid_box(whole(space), work.chunks, task.number)
    part = {
        name: reader[(slice(0, reader.shape[0]), *box.slices)] for name, reader in readers.items()
    }
    (writer,) = task.writers
    writer[(slice(None), *box.slices)] = coding.decode(part, [work.parameters], work.decode)
