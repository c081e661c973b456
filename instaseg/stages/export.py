"""``--do export``: results as files that other programs open, such as TIFF for ImageJ."""

from __future__ import annotations

from dataclasses import dataclass

from instaseg.blockwise.scheduler import run_tasks
from instaseg.io.samples import Sample
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.classify import require_classes
from instaseg.stages.context import Context, Dataset
from instaseg.stages.missing import skip_done
from instaseg.stages.postprocess import (
    finished_fingerprint,
    finished_key,
    instances_path,
    require_instances,
)
from instaseg.stages.predicting import prediction_fingerprint, require_predictions
from instaseg.stages.results.kind import ExportTask, Product
from instaseg.stages.results.table import RESULTS
from instaseg.stages.selection import Selection, select


@dataclass(frozen=True)
class Job:
    """A file, and what it is made from."""

    task: ExportTask
    product: Product

    def __str__(self) -> str:
        return str(self.task)

    @property
    def is_done(self) -> bool:
        """Whether the file is there, made from what it would be made from now."""
        return self.product.note(self.task.output) == self.task.note


def run(context: Context) -> str:
    """Write every test sample's result, repaired if that is current."""
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    require_classes(context, dataset, selection)
    kind = RESULTS[context.method.result]
    products = kind.products(selection.parameters.labelling, context.method)
    if any(product.source == "prediction" for product in products):
        names = [sample.name for sample in dataset.samples]
        require_predictions(context, dataset, selection.checkpoint, names)
    jobs = [
        Job(_task(context, dataset, sample, selection, product), product)
        for sample in dataset.samples
        for product in products
    ]
    missing = skip_done(
        context, jobs, lambda job: job.is_done, words="export: %d of %d files done, skipped"
    )
    run_tasks(write_file, missing, workers=context.workers, description="export")
    return f"export: {len(jobs)} files in {jobs[0].task.output.parent}"


def write_file(job: Job) -> None:
    """Write one file of a sample."""
    job.product.write(job.task)


def _task(
    context: Context, dataset: Dataset, sample: Sample, selection: Selection, product: Product
) -> ExportTask:
    if product.source == "prediction":
        path = context.experiment.prediction(dataset.name, selection.checkpoint, sample.name)
        key = context.method.heads[0].key
        source = prediction_fingerprint(context, sample, selection.checkpoint)
    else:
        path = instances_path(context, dataset, sample, selection)
        key = finished_key(context, sample, path, selection)
        source = finished_fingerprint(context, sample, selection, key)
    folder = context.experiment.exported(dataset.name)
    return ExportTask(
        sample=sample.name,
        source=path,
        key=key,
        output=folder / f"{sample.name}{product.suffix}",
        resolution=sample.resolution,
        units=sample.units,
        note=f"instaseg {fingerprint('export', source, sample.resolution, sample.units)}",
    )
