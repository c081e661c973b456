"""``--do label``: predictions to instances, classes or points."""

from __future__ import annotations

import logging
from functools import partial

from instaseg.blockwise.scheduler import Pool
from instaseg.io.samples import Sample
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.decoding import assembly_device, checkpoint_decoder, require_decoded
from instaseg.stages.labelling import LabelTask, for_type, label_in_blocks, label_sample, refinement
from instaseg.stages.missing import forget_blocks, remove_blocks, skip_done
from instaseg.stages.predicting import prediction_fingerprint, require_predictions
from instaseg.stages.results.table import RESULTS
from instaseg.stages.selection import Selection, select
from instaseg.stages.sizes import blocks_of_prediction, run_by_size
from instaseg.stages.stored import stored_fingerprint

logger = logging.getLogger(__name__)


def run(context: Context) -> None:
    """Label every predicted sample that has no current result."""
    dataset, selection = context.dataset("test"), select(context)
    logger.info(
        "label: checkpoint %d, parameters %s", selection.checkpoint, selection.parameters.name
    )
    tasks = label_tasks(context, dataset, selection)
    key = RESULTS[context.method.result].key
    missing = skip_done(
        context,
        tasks,
        lambda task: stored_fingerprint(task.output, key) == task.fingerprint,
        words="label: %d of %d samples done, skipped",
    )
    forget_blocks(context, [task.blocks for task in missing])
    names = [task.sample for task in missing]
    require_predictions(context, dataset, selection.checkpoint, names)
    require_decoded(context, dataset, selection, names)
    with Pool(context.workers) as pool:
        run_by_size(
            pool,
            missing,
            partial(blocks_of_prediction, wanted=context.config.general.block_shape),
            whole=label_sample,
            in_blocks=label_in_blocks,
            description="label",
        )
    remove_blocks(task.blocks for task in tasks)


def label_tasks(context: Context, dataset: Dataset, selection: Selection) -> list[LabelTask]:
    """Return one task per sample, with the fingerprint its result gets."""
    experiment, parameters = context.experiment, selection.parameters
    decode = checkpoint_decoder(context, selection.checkpoint)
    return [
        LabelTask(
            sample=sample.name,
            prediction=experiment.prediction(dataset.name, selection.checkpoint, sample.name),
            output=experiment.instances(
                dataset.name, selection.checkpoint, parameters.instances_name, sample.name
            ),
            method=context.method_spec,
            parameters=for_type(parameters.labelling, sample.kind),
            fingerprint=instances_fingerprint(context, sample, selection),
            decode=decode,
            device=assembly_device(context),
            medians=parameters.postprocessing.medians,
            refine=refinement(context.method.result, sample, parameters.labelling),
        )
        for sample in dataset.samples
    ]


def instances_fingerprint(context: Context, sample: Sample, selection: Selection) -> str:
    """Return the fingerprint of the result a sample should have.

    Blocks and decoding are left out: they do not change the result.
    """
    prediction = prediction_fingerprint(context, sample, selection.checkpoint)
    parameters = selection.parameters
    medians = [parameters.postprocessing.median] if parameters.postprocessing.median else []
    return fingerprint("label", prediction, parameters.labelling, *medians)
