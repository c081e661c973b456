"""Instances: repaired, compared by overlap, drawn as outlines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from instaseg.blockwise.components import find_components
from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.work import Run
from instaseg.errors import DataError
from instaseg.io.arrays import ArraySource, Reader, scratch_array, scratch_zarr
from instaseg.io.image_files import stack_note
from instaseg.io.points import csv_lines
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import write_text
from instaseg.methods.base import Method
from instaseg.methods.build import MethodSpec
from instaseg.metrics import score_instances
from instaseg.metrics.baseline import OtsuForeground, otsu_components
from instaseg.metrics.config import ComparisonSettings, EvaluationSettings
from instaseg.metrics.instance_classes import InstanceClasses
from instaseg.metrics.kinds import find_errors
from instaseg.metrics.summary import pooled_scores
from instaseg.report.config import VisualizeSettings
from instaseg.settings import Table
from instaseg.stages.results.kind import (
    Baseline,
    ExportTask,
    Product,
    ResultKind,
    Scores,
    Subject,
    no_note,
    open_labels,
)
from instaseg.stages.results.tiff import write_classes, write_labels
from instaseg.stages.sizes import BLOCK_SHAPES, blocks_if_large
from instaseg.stages.voting import class_of, read_ballot, true_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELLED = "vote_instances"
REPAIRED = "instances"

DIM = "dim"
"""Attribute of the ground truth's array: labels of instances that are hard to see, or their
channels, from 1."""


def open_truth(sample: Sample, method: MethodSpec) -> Reader:
    """Open a sample's ground truth, labels or one channel per instance."""
    del method
    return open_labels(sample)


def score(truth: ArraySource, instances: ArraySource, subject: Subject, run: Run) -> Scores:
    """Return the scores of one sample as ``[evaluation]`` asks for them.

    Both sides may be on disk; see :func:`instaseg.metrics.score_instances`.
    """
    settings = cast(EvaluationSettings, subject.settings)
    count, classes = subject.method.build().instance_classes, None
    if count:
        blocks = BLOCK_SHAPES[subject.sample.ndim]
        true = true_classes(subject.sample, truth, count, blocks)
        classes = InstanceClasses(true, subject.classes, count)
    return score_instances(
        truth,
        instances,
        ndim=subject.sample.ndim,
        criterion=settings.localization_criterion,
        assignment=settings.assignment_strategy,
        thresholds=settings.thresholds,
        remove_small=settings.remove_small_components,
        partly=settings.partly,
        centre_lines=settings.centre_lines,
        boundaries=settings.boundaries,
        size_limits=settings.size_limits,
        dim=listed_dim(open_labels(subject.sample).attributes, subject.sample),
        classes=classes,
        run=run,
    )


def listed_dim(attributes: Mapping[str, Any], sample: Sample) -> tuple[int, ...]:
    """Return the instances that the ground truth's attribute ``dim`` lists.

    Raises
    ------
    DataError
        If it is no list of whole numbers.
    """
    listed = attributes.get(DIM, [])
    if not isinstance(listed, (list, tuple)) or not all(type(n) is int for n in listed):
        raise DataError(
            f"sample {sample.name}: attribute {DIM!r} of {sample.labels} must be a list of whole"
            f" numbers (labels, or channels from 1); got {listed!r}. Correct it, or delete the"
            " attribute"
        )
    return tuple(listed)


def baseline(method: MethodSpec, settings: ComparisonSettings) -> Baseline | None:
    """Return Otsu's threshold and connected components, unless the settings want none."""
    del method
    return Baseline("otsu + components", otsu_instances) if settings.baseline == "otsu" else None


@contextmanager
def otsu_instances(raw: Reader, scratch: Path) -> Iterator[ArraySource]:
    """Give the components that are brighter than Otsu's threshold; of large images on disk.

    Parameters
    ----------
    raw : Reader
        Image ``(c, [z,] y, x)``.
    scratch : Path
        Zarr folder that holds the components of an image of more than `MOST_AT_ONCE` voxels
        meanwhile; they are found in blocks of `BLOCK_SHAPES`, and are the same.
    """
    block_shape = blocks_if_large(raw.shape, len(raw.shape) - 1, None)
    if block_shape is None:
        yield otsu_components(read_whole(raw))
        return
    bright = OtsuForeground(raw)
    blocks = BlockGrid(bright.shape, block_shape)
    _, numbers = find_components(lambda box: bright[box.slices], blocks)
    with (
        scratch_zarr(scratch),
        scratch_array(scratch, "components", shape=blocks.shape, dtype=np.dtype(np.int32)) as found,
    ):
        for block, box in enumerate(blocks.boxes):
            found[box.slices] = numbers(block)
        yield found


def overlay(instances: ArraySource, subject: Subject, settings: VisualizeSettings) -> Figure:
    """Draw outlines of both sides and the errors by kind; without truth only the prediction.

    Image and both sides are read part by part; memory is that of a part and of the picture.
    """
    from instaseg.report.overlays import overlay_figure, prediction_figure

    sample = subject.sample
    raw, truth = sample.open_raw(), sample.open_labels()
    if truth is None:
        return prediction_figure(raw, instances, settings=settings, title=sample.name)
    evaluation = cast(EvaluationSettings, subject.settings)
    errors = find_errors(
        truth,
        instances,
        ndim=sample.ndim,
        threshold=settings.threshold,
        criterion=evaluation.localization_criterion,
        assignment=evaluation.assignment_strategy,
        remove_small=evaluation.remove_small_components,
        partly=evaluation.partly,
    )
    return overlay_figure(raw, errors, settings=settings, title=sample.name)


def products(labelling: Table, method: Method) -> tuple[Product, ...]:
    """Return the TIFF of labels; where instances have classes, also one of these, and a table."""
    del labelling
    labels = Product(".tif", "result", write_labels, stack_note)
    if method.instance_classes == 0:
        return (labels,)
    return (
        labels,
        Product("_classes.tif", "result", write_class_image, stack_note),
        Product("_classes.csv", "result", write_class_table, no_note),
    )


def write_class_table(task: ExportTask) -> None:
    """Write the class of each instance, and its share of the votes."""
    ballot = read_ballot(task.source, task.key)
    columns = ballot.channel, ballot.label, ballot.classes, ballot.shares
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    write_text(task.output, csv_lines(["channel", "label", "class", "share"], rows))


def write_class_image(task: ExportTask) -> None:
    """Write an image of the classes of instances, as the labels are written."""
    write_classes(task, class_of(read_ballot(task.source, task.key)))


def chart(averages: Mapping[str, Scores], settings: ComparisonSettings) -> Figure:
    """Draw the score against the threshold."""
    from instaseg.report.curves import score_figure

    return score_figure(averages, thresholds=cast(EvaluationSettings, settings).thresholds)


KIND = ResultKind(
    noun="instances",
    key=LABELLED,
    repaired=REPAIRED,
    dtype="int32",
    open_truth=open_truth,
    score=score,
    pool=pooled_scores,
    baseline=baseline,
    overlay=overlay,
    products=products,
    chart=chart,
    chart_caption="Score against the threshold",
)
