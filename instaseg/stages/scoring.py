"""Scores of one sample, and the files that keep them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from instaseg.errors import DataError, StageError
from instaseg.io.arrays import Reader, open_array
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import to_toml, write_text
from instaseg.methods.base import Decode, Device
from instaseg.methods.build import MethodSpec
from instaseg.metrics import score_instances
from instaseg.metrics.baseline import otsu_components
from instaseg.metrics.config import EvaluationSettings, needs_boundaries, needs_centre_lines
from instaseg.metrics.overlaps import Source
from instaseg.postprocess.repair import postprocess
from instaseg.run.sweep import ParameterSet
from instaseg.stages.labelling import read_prediction

Scores = dict[str, Any]


DIM = "dim"
"""Attribute of the ground truth's array: labels of instances that are hard to see, or their
channels, from 1."""


def score(
    truth: Source,
    instances: Source,
    settings: EvaluationSettings,
    *,
    ndim: int,
    dim: tuple[int, ...] = (),
) -> Scores:
    """Return the scores of one sample as ``[evaluation]`` asks for them.

    Both sides may be on disk; see :func:`instaseg.metrics.score_instances`.
    """
    return score_instances(
        truth,
        instances,
        ndim=ndim,
        criterion=settings.localization_criterion,
        assignment=settings.assignment_strategy,
        thresholds=settings.thresholds,
        remove_small=settings.remove_small_components,
        partly=settings.partly,
        centre_lines=settings.centre_lines,
        boundaries=settings.boundaries,
        dim=dim,
    )


def write_scores(file: Path, scores: Scores, fingerprint: str) -> None:
    """Write one sample's scores with the fingerprint of what they were made from."""
    write_text(file, to_toml({"fingerprint": fingerprint, **scores}))


def read_scores(file: Path, fingerprint: str) -> Scores | None:
    """Return scores that were made from the same, None if there are none or they are damaged."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return table if table.pop("fingerprint", None) == fingerprint else None


@dataclass(frozen=True)
class EvaluationTask:
    """What :func:`evaluate_sample` needs.

    Parameters
    ----------
    sample : Sample
        With its ground truth.
    source : Path
        Zarr folder of the instances.
    key : str
        Their array; ``otsu`` scores the baseline of the raw image instead.
    output : Path
        The TOML file to write.
    settings : EvaluationSettings
        How they are compared.
    fingerprint : str
        Kept with the scores.
    """

    sample: Sample
    source: Path
    key: str
    output: Path
    settings: EvaluationSettings
    fingerprint: str

    def __str__(self) -> str:
        return f"sample {self.sample.name}"


def evaluate_sample(task: EvaluationTask) -> None:
    """Score one sample's instances and write the result; neither side is read whole."""
    _score_and_write(task, open_array(task.source, task.key))


def evaluate_baseline(task: EvaluationTask) -> None:
    """Score Otsu's threshold + connected components of one sample and write the result."""
    _score_and_write(task, otsu_components(task.sample.read_raw()))


def _score_and_write(task: EvaluationTask, instances: Source) -> None:
    truth = open_truth(task.sample)
    dim = listed_dim(truth.attributes, task.sample)
    scores = score(truth, instances, task.settings, ndim=task.sample.ndim, dim=dim)
    write_scores(task.output, scores, task.fingerprint)


def read_truth(sample: Sample) -> NDArray[Any]:
    """Return a sample's whole ground truth; see :func:`open_truth`."""
    return read_whole(open_truth(sample))


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
            f" numbers (labels, or channels from 1); got {listed!r}"
        )
    return tuple(listed)


def open_truth(sample: Sample) -> Reader:
    """Open a sample's ground truth, labels or one channel per instance.

    Raises
    ------
    StageError
        If it has none.
    """
    labels = sample.open_labels()
    if labels is None:
        raise StageError(
            f"sample {sample.name}: expected ground truth beside {sample.raw}, found none"
        )
    return labels


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
    """Label, repair and score one sample with each parameter set; instances are not kept."""
    method = task.method.build()
    prediction = read_prediction(task.prediction, method.heads)
    opened = open_truth(task.sample)
    dim = listed_dim(opened.attributes, task.sample)
    truth = read_whole(opened)
    ndim = task.sample.ndim
    labelled = method.label(
        prediction,
        [parameters.labelling for parameters in task.sets],
        decode=task.decode,
        device=task.device,
    )
    todo = zip(task.sets, labelled, task.outputs, task.fingerprints, strict=True)
    for parameters, instances, output, fingerprint in todo:
        repaired = postprocess(instances, parameters.postprocessing, ndim=ndim)
        settings = without_unread_scores(parameters.evaluation)
        write_scores(output, score(truth, repaired, settings, ndim=ndim, dim=dim), fingerprint)


def without_unread_scores(settings: EvaluationSettings) -> EvaluationSettings:
    """Return settings that skip what costs time and neither metric nor summary needs."""
    names = (settings.metric, *settings.summary)
    skipped = {}
    if settings.localization_criterion != "cldice" and not any(map(needs_centre_lines, names)):
        skipped["centre_lines"] = "skip"
    if not any(map(needs_boundaries, names)):
        skipped["boundaries"] = "skip"
    return settings.model_copy(update=skipped) if skipped else settings
