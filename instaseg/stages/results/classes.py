"""Classes: compared voxel by voxel, drawn as colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from instaseg.blockwise.work import Run
from instaseg.data.check import class_faults
from instaseg.data.classes import ClassMap
from instaseg.data.layers import class_image
from instaseg.io.arrays import ArraySource, Reader
from instaseg.io.image_files import stack_note
from instaseg.io.samples import Sample
from instaseg.methods.base import Method
from instaseg.methods.build import MethodSpec
from instaseg.metrics.baseline import OtsuForeground
from instaseg.metrics.classes import pooled_class_scores, score_classes
from instaseg.metrics.config import ClassEvaluationSettings, ComparisonSettings
from instaseg.report.config import VisualizeSettings
from instaseg.settings import Table
from instaseg.stages.results.kind import (
    Baseline,
    Product,
    ResultKind,
    Scores,
    Subject,
    open_labels,
)
from instaseg.stages.results.tiff import write_labels, write_probabilities

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_map(method: MethodSpec) -> ClassMap:
    """Return what the values of the ground truth mean."""
    found = method.build().class_map
    assert found is not None, "a method that gives classes says what they mean"
    return found


def open_truth(sample: Sample, method: MethodSpec) -> Reader:
    """Open a sample's ground truth as classes ``([z,] y, x)``, negative where there is none."""
    return class_image(sample, open_labels(sample), class_map(method))


def score(truth: ArraySource, prediction: ArraySource, subject: Subject, run: Run) -> Scores:
    """Return the scores of one sample; both sides may be on disk."""
    settings = cast(ClassEvaluationSettings, subject.settings)
    spacing = subject.sample.resolution
    return score_classes(
        truth,
        prediction,
        num_classes=class_map(subject.method).num_classes,
        spacing=spacing,
        boundary_distance=settings.boundary_distance * min(spacing),
        patch_shape=settings.patch_shape,
        run=run,
    )


def baseline(method: MethodSpec, settings: ComparisonSettings) -> Baseline | None:
    """Return Otsu's threshold for two classes, unless the settings want none."""
    if settings.baseline != "otsu" or class_map(method).num_classes > 2:
        return None
    return Baseline("otsu", otsu_foreground)


def otsu_foreground(raw: Reader, scratch: Path) -> AbstractContextManager[ArraySource]:
    """Give class 1 where an image ``(c, [z,] y, x)`` is brighter than Otsu's threshold."""
    del scratch
    return nullcontext(OtsuForeground(raw))


def overlay(prediction: ArraySource, subject: Subject, settings: VisualizeSettings) -> Figure:
    """Draw the classes of both sides and where they differ."""
    from instaseg.report.class_overlays import class_figure

    sample = subject.sample
    truth = None if sample.labels is None else open_truth(sample, subject.method)
    return class_figure(sample.open_raw(), prediction, truth, settings=settings, title=sample.name)


def products(labelling: Table, method: Method) -> tuple[Product, ...]:
    """Return the TIFF of classes, of probabilities, or both, as ``output`` says."""
    del method
    classes = Product(".tif", "result", write_labels, stack_note)
    probabilities = Product("_probabilities.tif", "prediction", write_probabilities, stack_note)
    match labelling.model_dump()["output"]:
        case "classes":
            return (classes,)
        case "probabilities":
            return (probabilities,)
        case _:
            return (classes, probabilities)


def chart(averages: Mapping[str, Scores], settings: ComparisonSettings) -> Figure:
    """Draw the IoU of every class."""
    from instaseg.report.class_overlays import class_score_figure

    del settings
    return class_score_figure(averages)


def truth_faults(
    sample: Sample, needed: Literal["required", "optional"], *, method: MethodSpec
) -> Iterator[str]:
    """Yield values of the ground truth that are no classes."""
    del needed
    return class_faults(sample, class_map(method))


KIND = ResultKind(
    noun="classes",
    key="classes",
    repaired=None,
    dtype="uint8",
    open_truth=open_truth,
    score=score,
    pool=pooled_class_scores,
    baseline=baseline,
    overlay=overlay,
    products=products,
    chart=chart,
    chart_caption="IoU of every class",
    truth_faults=truth_faults,
)
