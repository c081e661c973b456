"""``--do label``: predictions to instances."""

from __future__ import annotations

import logging

from instaseg.blockwise.scheduler import run_tasks
from instaseg.io.samples import Sample
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.labelling import INSTANCES, LabelTask, label_sample, stored_fingerprint
from instaseg.stages.predicting import prediction_fingerprint, require_predictions
from instaseg.stages.selection import Selection, select

logger = logging.getLogger(__name__)


def run(context: Context) -> None:
    """Label every predicted sample that has no current instances."""
    dataset, selection = context.dataset("test"), select(context)
    logger.info(
        "label: checkpoint %d, parameters %s", selection.checkpoint, selection.parameters.name
    )
    tasks = label_tasks(context, dataset, selection)
    missing = [task for task in tasks if _is_missing(context, task)]
    if len(missing) < len(tasks):
        logger.info("label: %d of %d samples done, skipped", len(tasks) - len(missing), len(tasks))
    require_predictions(context, dataset, selection.checkpoint, [task.sample for task in missing])
    run_tasks(label_sample, missing, workers=context.workers, description="label")


def label_tasks(context: Context, dataset: Dataset, selection: Selection) -> list[LabelTask]:
    """Return one task per sample, with the fingerprint its instances get."""
    experiment, parameters = context.experiment, selection.parameters
    return [
        LabelTask(
            sample=sample.name,
            prediction=experiment.prediction(dataset.name, selection.checkpoint, sample.name),
            output=experiment.instances(
                dataset.name, selection.checkpoint, parameters.instances_name, sample.name
            ),
            method=context.method_spec,
            parameters=parameters.labelling,
            fingerprint=instances_fingerprint(context, sample, selection),
        )
        for sample in dataset.samples
    ]


def instances_fingerprint(context: Context, sample: Sample, selection: Selection) -> str:
    """Return the fingerprint of the instances a sample should have."""
    prediction = prediction_fingerprint(context, sample, selection.checkpoint)
    return fingerprint("label", prediction, selection.parameters.labelling)


def _is_missing(context: Context, task: LabelTask) -> bool:
    if context.options.existing == "overwrite":
        return True
    return stored_fingerprint(task.output, INSTANCES) != task.fingerprint
