"""Points: sites of synapses and their connections, compared by distance, drawn as marks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.blockwise.work import Run
from instaseg.data.check import instance_truth_faults
from instaseg.errors import DataError, StageError
from instaseg.io.arrays import NO_ATTRIBUTES, ArraySource, Reader, open_array
from instaseg.io.points import (
    CLEFT,
    KINDS,
    Points,
    blank,
    csv_lines,
    faults,
    make_points,
    write_points,
)
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import write_text
from instaseg.methods.base import Method
from instaseg.methods.build import MethodSpec
from instaseg.methods.synapses.config import PointSettings, SynapsesSettings, scored_of
from instaseg.methods.synapses.decode import drop_within_segments, segments_at
from instaseg.metrics.config import ComparisonSettings, PointEvaluationSettings
from instaseg.metrics.points import (
    association_rows,
    connection_rows,
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
    no_note,
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
            f"sample {sample.name}: expected sites of synapses beside {sample.raw}, found none; add"
            " points (data.points_key), or name other samples with --sample"
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


def score(truth: ArraySource, result: ArraySource, subject: Subject, run: Run) -> Scores:
    """Return the scores of one sample as ``[evaluation]`` asks for them.

    Those of what the method does not predict are NaN.
    """
    del run  # tables are small
    settings = cast(PointEvaluationSettings, subject.settings)
    true, predicted = _compared(_table(truth), _table(result), subject.sample)
    scores = score_points(
        true, predicted, spacing=subject.sample.resolution, tolerance=settings.tolerance
    )
    given = scored_of(cast(SynapsesSettings, subject.method.settings))
    return {
        name: values if name in given else dict.fromkeys(values, math.nan)
        for name, values in scores.items()
    }


def _compared(truth: Points, result: Points, sample: Sample) -> tuple[Points, Points]:
    """Return both tables without the points where the sample's mask is 0; rows keep their numbers.

    There the truth is not complete.
    """
    mask = sample.open_mask()
    if mask is None:
        return truth, result
    blanked = [blank(table, segments_at(table, mask) == 0) for table in (truth, result)]
    return blanked[0], blanked[1]


def write_matches(truth: ArraySource, result: ArraySource, subject: Subject, scores: Path) -> None:
    """Write tables of every kind of point that occurs, in a folder beside the file of the scores.

    They are ``<sample>_<kind>_gt_assoc.csv``, which has every true point, and
    ``<sample>_<kind>_fp.csv``, which has the false predictions; ids are rows of the tables. Those
    of connections are named likewise, with the ids and positions of both ends.
    """
    settings = cast(PointEvaluationSettings, subject.settings)
    spacing = subject.sample.resolution
    tables = _compared(_table(truth), _table(result), subject.sample)
    found = matches_of(*tables, spacing=spacing, tolerance=settings.tolerance)
    for name, matches in found.items():
        if matches.num_truth == matches.num_predicted == 0:
            continue
        if name in KINDS:
            ends, rows = [""], association_rows(*tables, KINDS.index(name), matches)
        else:
            ends, rows = ["pre_", "post_"], connection_rows(*tables, matches)
        headers = _headers(ends, len(spacing))
        for header, of_one, ending in zip(headers, rows, ("gt_assoc", "fp"), strict=True):
            file = scores.parent / ASSOCIATIONS / f"{scores.stem}_{name}_{ending}.csv"
            write_text(file, csv_lines(header, of_one))


def _headers(ends: Sequence[str], axes: int) -> tuple[list[str], list[str]]:
    """Return the columns of the table of true ones and of that of false ones."""
    places = [f"{end}axis-{axis}" for end in ends for axis in range(axes)]
    true, predicted = ([f"{side}_{end}id" for end in ends] for side in ("gt", "pred"))
    theirs = [f"pred_{place}" for place in places]
    return [*true, *predicted, "distance", "tag", *places, *theirs], [*predicted, *places]


def _table(source: ArraySource) -> Points:
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


def overlay(result: ArraySource, subject: Subject, settings: VisualizeSettings) -> Figure:
    """Draw points and connections; with ground truth only those that are scored, and how."""
    from instaseg.report.points import points_figure

    sample, table = subject.sample, _table(result)
    truth = None
    if sample.labels is not None:
        points, table = _compared(_table(open_truth(sample, subject.method)), table, sample)
        evaluation = cast(PointEvaluationSettings, subject.settings)
        found = matches_of(points, table, spacing=sample.resolution, tolerance=evaluation.tolerance)
        truth = points, found
    return points_figure(
        sample.open_raw(), table, truth=truth, settings=settings, title=sample.name
    )


def products(labelling: Table, method: Method) -> tuple[Product, ...]:
    """Return the tables of sites and connections, which are written together."""
    del labelling, method
    return (Product("_pre_post_mapping.csv", "result", write_tables, no_note),)


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


def require_sites(samples: Sequence[Sample], method: MethodSpec) -> None:
    """Check that a data set to learn from shows every kind of site that is learnt.

    Samples without any are fine among others.

    Raises
    ------
    DataError
        If there is no site of a kind in any sample.
    """
    settings = cast(SynapsesSettings, method.settings)
    if settings.masks:
        return
    counts: Counter[int] = Counter()
    for sample in samples:
        if sample.labels is not None:
            counts.update(sample.read_points()[:, 0].astype(int).tolist())
    missing = [site for site in settings.learnt_sites if not counts[KINDS.index(site)]]
    if missing:
        found = ", ".join(f"{counts[kind]} {name}" for kind, name in enumerate(KINDS))
        advice = (
            'Set method.cleft_target = "masks" if clefts are painted as labels, or add points'
            if settings.kind == "cleft"
            else "Add them, or set another method.kind"
        )
        raise DataError(
            f"{samples[0].raw.path.parent}: expected points of kind {' and '.join(missing)} in at"
            f" least one sample, because method.kind = '{settings.kind}' learns them; found"
            f" {found}. {advice}"
        )


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
    check_together=require_sites,
    refine=refine,
    write_matches=write_matches,
)
