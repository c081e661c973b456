"""Points: sites of synapses and their connections, compared by distance, drawn as marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.data.check import instance_truth_faults
from instaseg.errors import DataError, StageError
from instaseg.io.arrays import NO_ATTRIBUTES, Reader, open_array
from instaseg.io.points import CLEFT, KINDS, Points, csv_lines, faults, make_points, write_points
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import write_text
from instaseg.methods.build import MethodSpec
from instaseg.methods.synapses.config import PointSettings
from instaseg.methods.synapses.decode import drop_within_segments, segments_at
from instaseg.metrics.config import ComparisonSettings, PointEvaluationSettings
from instaseg.metrics.overlaps import Source
from instaseg.metrics.points import (
    association_rows,
    matches_of,
    pooled_point_scores,
    score_points,
)
from instaseg.report.config import VisualizeSettings
from instaseg.settings import Table
from instaseg.stages.results.kind import (
    Baseline,
    ExportTask,
    Product,
    ResultKind,
    Scores,
    Subject,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASSOCIATIONS = "point_associations"
"""Folder of the tables of matches, beside the files of the scores."""


@dataclass(frozen=True)
class HeldTable:
    """A table in memory, with the face of one on disk.

    Parameters
    ----------
    table : (n, 4 + axes) float64
        Points.
    """

    table: Points

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """None: it is in memory."""
        return None

    @property
    def attributes(self) -> Mapping[str, Any]:
        """No metadata."""
        return NO_ATTRIBUTES

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return self.table.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.table.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> Points:
        return self.table[index]


def open_truth(sample: Sample, method: MethodSpec) -> Reader:
    """Open a sample's points; of painted clefts the centroids of their components.

    Raises
    ------
    StageError
        If it has no ground truth.
    """
    del method
    if sample.labels is None:
        raise StageError(
            f"sample {sample.name}: expected sites of synapses beside {sample.raw}, found none"
        )
    if sample.truth == "points":
        return HeldTable(sample.read_points())
    painted = sample.read_labels()
    assert painted is not None
    if sample.truth == "instances":
        painted = np.asarray(painted != 0).max(axis=0)
    return HeldTable(painted_points(painted))


def painted_points(labels: NDArray[Any]) -> Points:
    """Return the centroids of painted clefts ``([z,] y, x)`` as points.

    A cleft is what is connected, corners included, and has one label.
    """
    components = local_labels(labels)
    voxels = np.nonzero(components)
    number = components[voxels].astype(np.int64) - 1
    sizes = np.bincount(number)
    centroids = [np.bincount(number, axis) / sizes for axis in voxels]
    return make_points(CLEFT, np.stack(centroids, axis=1))


def score(truth: Source, result: Source, subject: Subject) -> Scores:
    """Return the scores of one sample as ``[evaluation]`` asks for them."""
    settings = cast(PointEvaluationSettings, subject.settings)
    return score_points(
        _table(truth),
        _table(result),
        spacing=subject.sample.resolution,
        tolerance=settings.tolerance,
    )


def write_matches(truth: Source, result: Source, subject: Subject, scores: Path) -> None:
    """Write tables of every kind of point that occurs, in a folder beside the file of the scores.

    They are ``<sample>_<kind>_gt_assoc.csv``, which has every true point, and
    ``<sample>_<kind>_fp.csv``, which has the false predictions; ids are rows of the tables.
    """
    settings = cast(PointEvaluationSettings, subject.settings)
    spacing = subject.sample.resolution
    tables = _table(truth), _table(result)
    found = matches_of(*tables, spacing=spacing, tolerance=settings.tolerance)
    axes = [f"axis-{axis}" for axis in range(len(spacing))]
    headers = (
        ["gt_id", "pred_id", "distance", "tag", *axes, *(f"pred_{axis}" for axis in axes)],
        ["pred_id", *axes],
    )
    for kind, name in enumerate(KINDS):
        if found[name].num_truth == found[name].num_predicted == 0:
            continue
        rows = association_rows(*tables, kind, found[name])
        for header, of_one, ending in zip(headers, rows, ("gt_assoc", "fp"), strict=True):
            file = scores.parent / ASSOCIATIONS / f"{scores.stem}_{name}_{ending}.csv"
            write_text(file, csv_lines(header, of_one))


def _table(source: Source) -> Points:
    return np.asarray(source[tuple(slice(0, n) for n in source.shape)], dtype=np.float64)


def refine(sample: Sample, labelling: Table, table: Points) -> Points:
    """Return the points without connections inside a neuron, where a segmentation is named.

    Raises
    ------
    DataError
        If the sample has no such array, or it is not of the image's shape.
    """
    key = cast(PointSettings, labelling).neurons_key
    if key is None:
        return table
    neurons = open_array(sample.raw.path, key)
    space = sample.open_raw().shape[1:]
    if neurons.shape != space or not np.issubdtype(neurons.dtype, np.integer):
        raise DataError(
            f"sample {sample.name}: {key} is {neurons.dtype} of shape {neurons.shape}; expected"
            f" whole numbers of shape {space}, as the image has. Check vote_instances.neurons_key"
        )
    return drop_within_segments(table, segments_at(table, neurons))


def baseline(method: MethodSpec, settings: ComparisonSettings) -> Baseline | None:
    """Return None: there is no baseline for points."""
    del method, settings
    return None


def overlay(table: NDArray[Any], subject: Subject, settings: VisualizeSettings) -> Figure:
    """Draw points and connections; with ground truth also what is false and missed."""
    from instaseg.report.points import points_figure

    sample = subject.sample
    truth = None
    if sample.labels is not None:
        points = read_whole(open_truth(sample, subject.method))
        evaluation = cast(PointEvaluationSettings, subject.settings)
        found = matches_of(points, table, spacing=sample.resolution, tolerance=evaluation.tolerance)
        truth = points, found
    return points_figure(
        sample.read_raw(), table, truth=truth, settings=settings, title=sample.name
    )


def products(labelling: Table) -> tuple[Product, ...]:
    """Return the tables of sites and connections, which are written together."""
    del labelling
    return (Product("_pre_post_mapping.csv", "result", write_tables, no_note),)


def no_note(path: Path) -> None:
    """Return None: tables say nothing of what they were made from, and are written anew."""
    del path


def write_tables(task: ExportTask) -> None:
    """Write a sample's points as CSV; see :func:`instaseg.io.points.write_points`."""
    table = read_whole(open_array(task.source, task.key))
    write_points(table, task.output.parent, name=task.sample)


def truth_faults(
    sample: Sample, needed: Literal["required", "optional"], /, *, method: MethodSpec
) -> Iterator[str]:
    """Yield what is wrong with a sample's points, or with its painted clefts."""
    del method
    if sample.truth == "points":
        yield from faults(sample.read_points(), sample.open_raw().shape[1:])
    else:
        yield from instance_truth_faults(sample, needed, "may_overlap")


KIND = ResultKind(
    noun="points",
    key="points",
    repaired=None,
    dtype="float64",
    open_truth=open_truth,
    score=score,
    pool=pooled_point_scores,
    baseline=baseline,
    overlay=overlay,
    products=products,
    truth_faults=truth_faults,
    refine=refine,
    write_matches=write_matches,
)
