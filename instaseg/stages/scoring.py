"""Scores of one sample, and the files that keep them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.work import Run
from instaseg.io.arrays import ArraySource, open_array
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import to_toml, write_text
from instaseg.methods.base import Decode, Device, Method, Result
from instaseg.methods.build import MethodSpec
from instaseg.metrics.config import ComparisonSettings
from instaseg.metrics.instance_classes import ClassOf
from instaseg.postprocess.config import MedianFilter
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.votes import class_ballot
from instaseg.run.sweep import ParameterSet
from instaseg.stages.labelling import at_image_size, filtered, for_type
from instaseg.stages.results.kind import Scores, Subject
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scene import open_scene
from instaseg.stages.sizes import BLOCK_SHAPES
from instaseg.stages.stored import image_shape, method_at, read_prediction
from instaseg.stages.voting import class_of, predicted_votes, read_ballot

_FORMAT = 3
"""Rises when scores get other names or meanings; those of an earlier one are worked out again."""


def write_scores(file: Path, scores: Scores, fingerprint: str) -> None:
    """Write one sample's scores with the fingerprint of what they were made from."""
    write_text(file, to_toml({"format": _FORMAT, "fingerprint": fingerprint, **scores}))


def read_scores(file: Path, fingerprint: str) -> Scores | None:
    """Return scores that were made from the same, None if there are none, old or damaged ones."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    found = table.pop("format", None), table.pop("fingerprint", None)
    return table if found == (_FORMAT, fingerprint) else None


class Scored(Protocol):
    """What has scores in a file of its own."""

    @property
    def output(self) -> Path:
        """The TOML file."""

    @property
    def fingerprint(self) -> str:
        """Kept with the scores."""


def is_scored(task: Scored) -> bool:
    """Return whether the scores are there, made from what they would be made from now."""
    return read_scores(task.output, task.fingerprint) is not None


@dataclass(frozen=True)
class EvaluationTask:
    """What :func:`evaluate_sample` needs.

    Parameters
    ----------
    sample : Sample
        With its ground truth.
    source : Path
        Zarr folder of the result; of a baseline the image, which is not read from here.
    key : str
        Its array.
    output : Path
        The TOML file to write.
    result : {"instances", "classes", "points"}
        What is compared.
    method : MethodSpec
        What gave it.
    settings : ComparisonSettings
        How it is compared.
    fingerprint : str
        Kept with the scores.
    """

    sample: Sample
    source: Path
    key: str
    output: Path
    result: Result
    method: MethodSpec
    settings: ComparisonSettings
    fingerprint: str

    def __str__(self) -> str:
        return f"sample {self.sample.name}"


def finished_scores(tasks: Sequence[EvaluationTask]) -> dict[str, Scores]:
    """Return the scores that are there and current, by sample; works out nothing."""
    found = {task.sample.name: read_scores(task.output, task.fingerprint) for task in tasks}
    return {name: scores for name, scores in found.items() if scores is not None}


def evaluate_sample(task: EvaluationTask) -> None:
    """Score one sample's result and write the scores; neither side is read whole."""
    evaluate_with(run_here, task)


def evaluate_with(run: Run, task: EvaluationTask) -> None:
    """Score one sample's result, with what runs tasks on parts of it, and write the scores."""
    classes = None
    if task.method.build().instance_classes:
        classes = class_of(read_ballot(task.source, task.key))
    _score_and_write(task, open_array(task.source, task.key), classes, run)


def evaluate_baseline(task: EvaluationTask) -> None:
    """Score the baseline's result of one sample and write the scores."""
    baseline = RESULTS[task.result].baseline(task.method, task.settings)
    assert baseline is not None, "tasks are made for baselines that exist"
    scratch = task.output.with_suffix(".zarr")
    with baseline.segment(task.sample.open_raw(), scratch) as result:
        _score_and_write(task, result, None, run_here)


def _score_and_write(
    task: EvaluationTask, result: ArraySource, classes: ClassOf | None, run: Run
) -> None:
    kind = RESULTS[task.result]
    truth = kind.open_truth(task.sample, task.method)
    subject = Subject(task.sample, task.method, task.settings, classes)
    if kind.write_matches is not None:
        kind.write_matches(truth, result, subject, task.output)
    write_scores(task.output, kind.score(truth, result, subject, run), task.fingerprint)


@dataclass(frozen=True)
class ValidationTask:
    """What :func:`validate_sample` needs: one prediction and all parameter sets to try on it.

    Parameters
    ----------
    sample : Sample
        With its ground truth.
    prediction : Path
        Zarr folder of the predicted heads.
    method : MethodSpec
        What turns predictions into instances.
    sets : tuple of ParameterSet
        What to try.
    outputs, fingerprints : tuple
        Score file and fingerprint for each set.
    decode : callable, optional
        Decoder, for methods with codes.
    device : {"cpu", "cuda"}
        Where heavy steps run.
    """

    sample: Sample
    prediction: Path
    method: MethodSpec
    sets: tuple[ParameterSet, ...]
    outputs: tuple[Path, ...]
    fingerprints: tuple[str, ...]
    decode: Decode | None = None
    device: Device = "cpu"

    def __str__(self) -> str:
        return f"sample {self.sample.name} of {self.prediction.parent.name}"


def validate_sample(task: ValidationTask) -> None:
    """Label, repair and score one sample with each parameter set; results are not kept."""
    method = method_at(task.method, task.prediction)
    kind = RESULTS[method.result]
    prediction = read_prediction(task.prediction, method.heads)
    truth = read_whole(kind.open_truth(task.sample, task.method))
    shape = image_shape(task.prediction, method.heads)
    for number, labels in _labelled(task, method, prediction):
        parameters, result = task.sets[number], at_image_size(labels, shape)
        if kind.repaired is not None:
            repair = parameters.postprocessing
            scene = open_scene(task.sample, repair, prediction=task.prediction, method=method)
            result = postprocess(result, repair, scene)
        if kind.refine is not None:
            result = kind.refine(task.sample, parameters.labelling, result)
        score_set(task, number, truth, result)


def score_set(task: ValidationTask, number: int, truth: ArraySource, result: ArraySource) -> None:
    """Score what one of the parameter sets gave, in memory or on disk, and write the scores."""
    settings = task.sets[number].evaluation.without_unread_scores()
    method = method_at(task.method, task.prediction)
    classes = None
    if method.instance_classes:
        ballot = class_ballot(
            result,
            predicted_votes(task.prediction, method),
            ndim=task.sample.ndim,
            count=method.instance_classes,
            block_shape=BLOCK_SHAPES[task.sample.ndim],
        )
        classes = class_of(ballot)
    subject = Subject(task.sample, task.method, settings, classes)
    scores = RESULTS[method.result].score(truth, result, subject, run_here)
    write_scores(task.outputs[number], scores, task.fingerprints[number])


def _labelled(
    task: ValidationTask, method: Method, prediction: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the number of each parameter set and its result; sets of equal filters share work."""
    groups: dict[tuple[MedianFilter, ...], list[int]] = {}
    for number, parameters in enumerate(task.sets):
        groups.setdefault(parameters.postprocessing.medians, []).append(number)
    for medians, numbers in groups.items():
        results = method.label(
            filtered(prediction, medians),
            [for_type(task.sets[number].labelling, task.sample.kind) for number in numbers],
            decode=task.decode,
            device=task.device,
        )
        yield from zip(numbers, results, strict=True)
