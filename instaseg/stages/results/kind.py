"""What a kind of result has to bring, so that all stages work with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from instaseg.blockwise.work import Run
from instaseg.errors import StageError
from instaseg.io.arrays import ArraySource, Reader
from instaseg.io.samples import Sample
from instaseg.methods.base import Method
from instaseg.methods.build import MethodSpec
from instaseg.metrics.config import ComparisonSettings
from instaseg.metrics.instance_classes import ClassOf
from instaseg.report.config import VisualizeSettings
from instaseg.settings import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What is compared, and how.

    Parameters
    ----------
    sample : Sample
        With its ground truth.
    method : MethodSpec
        What gave the result; its settings say how many classes there are, for example.
    settings : ComparisonSettings
        Table ``[evaluation]``, of the class that belongs to the kind of result.
    classes : mapping, optional
        Class of every predicted instance by channel and label; None where nothing tells it.
    """

    sample: Sample
    method: MethodSpec
    settings: ComparisonSettings
    classes: ClassOf | None = None


@dataclass(frozen=True)
class Baseline:
    """The simplest way to a result, as a yardstick.

    Parameters
    ----------
    name : str
        For tables.
    segment : callable
        From an image ``(c, [z,] y, x)``, read part by part, and a zarr folder for what does not fit
        in memory, to a result that is there as long as the context lasts.
    """

    name: str
    segment: Callable[[Reader, Path], AbstractContextManager[ArraySource]]


@dataclass(frozen=True)
class ExportTask:
    """What writing one file of a sample needs.

    Parameters
    ----------
    sample : str
        Its name, for messages.
    source : Path
        Zarr folder.
    key : str
        Array in it.
    output : Path
        The file to write.
    resolution, units : tuple
        Size of a voxel and its unit per spatial axis.
    note : str
        Kept in the file; tells what it was made from.
    """

    sample: str
    source: Path
    key: str
    output: Path
    resolution: tuple[float, ...]
    units: tuple[str, ...]
    note: str

    def __str__(self) -> str:
        return f"sample {self.sample}"


@dataclass(frozen=True)
class Product:
    """A file that ``export`` writes for every sample.

    Parameters
    ----------
    suffix : str
        End of its name, after that of the sample.
    source : {"result", "prediction"}
        What it is made from: what was labelled or repaired, or the first predicted head.
    write : callable
        Writes it.
    note : callable
        Returns the note that an existing file was written with, None for other files or none.
    """

    suffix: str
    source: Literal["result", "prediction"]
    write: Callable[[ExportTask], None]
    note: Callable[[Path], str | None]


class TruthCheck(Protocol):
    """Yields what is wrong with the values of a sample's ground truth."""

    def __call__(
        self, sample: Sample, needed: Literal["required", "optional"], /, *, method: MethodSpec
    ) -> Iterator[str]:
        """Check one sample for a method, for training or only for scoring."""


@dataclass(frozen=True)
class ResultKind:
    """Keys and functions of one kind of result; each function gets what it needs, no context.

    Parameters
    ----------
    noun : str
        What messages call it.
    key : str
        The array that ``label`` writes.
    repaired : str or None
        The array that ``postprocess`` writes beside it; None where it has nothing to repair.
    dtype : str
        Type of what is labelled in blocks.
    open_truth : callable
        Opens a sample's ground truth as it is compared. It raises StageError where there is none.
    score : callable
        Compares truth and result, both in memory or on disk, with what runs tasks on parts of
        them; nested scores, whose dotted names are those of the ``[evaluation]`` table.
    pool : callable
        Scores of many samples taken as one; the mean over samples works for any kind.
    baseline : callable
        The baseline that the value of ``[evaluation] baseline`` names; None where there is none
        for this method.
    overlay : callable
        Draws a result over the sample's image, beside its ground truth if it has one; all are read
        part by part.
    products : callable
        The files that ``export`` writes, by the table ``[vote_instances]`` and the method.
    chart : callable, optional
        Draws the average scores of methods by name; None for no picture.
    chart_caption : str
        Line below that picture.
    truth_faults : callable, optional
        Yields what is wrong with the values of a sample's ground truth, which is there and of the
        image's shape; None for the check of instances.
    check_together : callable, optional
        Checks the values of ground truth of all samples of a data set together, where it is
        required; raises DataError.
    refine : callable, optional
        Drops from a result what the sample shows to be wrong, as ``[vote_instances]`` says.
    write_matches : callable, optional
        Writes what in truth and result is the same, to files beside that of the scores.
    """

    noun: str
    key: str
    repaired: str | None
    dtype: str
    open_truth: Callable[[Sample, MethodSpec], Reader]
    score: Callable[[ArraySource, ArraySource, Subject, Run], Scores]
    pool: Callable[[Sequence[Scores]], Scores]
    baseline: Callable[[MethodSpec, ComparisonSettings], Baseline | None]
    overlay: Callable[[ArraySource, Subject, VisualizeSettings], Figure]
    products: Callable[[Table, Method], tuple[Product, ...]]
    chart: Callable[[Mapping[str, Scores], ComparisonSettings], Figure] | None = None
    chart_caption: str = ""
    truth_faults: TruthCheck | None = None
    check_together: Callable[[Sequence[Sample], MethodSpec], None] | None = None
    refine: Callable[[Sample, Table, NDArray[Any]], NDArray[Any]] | None = None
    write_matches: Callable[[ArraySource, ArraySource, Subject, Path], None] | None = None


def no_note(path: Path) -> None:
    """Return None: tables say nothing of what they were made from, and are written anew."""
    del path


def open_labels(sample: Sample) -> Reader:
    """Open a sample's ground truth, labels or one channel per instance.

    Raises
    ------
    StageError
        If it has none.
    """
    labels = sample.open_labels()
    if labels is None:
        raise StageError(
            f"sample {sample.name}: expected ground truth beside {sample.raw}, found none; add"
            " labels, or name other samples with --sample"
        )
    return labels
