"""Scores of one sample, and the files that keep them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from instaseg.errors import StageError
from instaseg.io.arrays import open_array
from instaseg.io.samples import Sample, read_whole
from instaseg.io.text import to_toml, write_text
from instaseg.methods.build import MethodSpec
from instaseg.metrics import score_instances
from instaseg.metrics.baseline import otsu_components
from instaseg.metrics.config import EvaluationSettings, needs_centre_lines
from instaseg.postprocess.repair import postprocess
from instaseg.run.sweep import ParameterSet
from instaseg.stages.labelling import read_prediction

Scores = dict[str, Any]


def score(
    truth: NDArray[Any], instances: NDArray[Any], settings: EvaluationSettings, *, ndim: int
) -> Scores:
    """Return the scores of one sample as ``[evaluation]`` asks for them."""
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
    """Score one sample's instances and write the result."""
    instances = read_whole(open_array(task.source, task.key))
    _score_and_write(task, instances)


def evaluate_baseline(task: EvaluationTask) -> None:
    """Score Otsu's threshold + connected components of one sample and write the result."""
    _score_and_write(task, otsu_components(task.sample.read_raw()))


def _score_and_write(task: EvaluationTask, instances: NDArray[Any]) -> None:
    scores = score(read_truth(task.sample), instances, task.settings, ndim=task.sample.ndim)
    write_scores(task.output, scores, task.fingerprint)


def read_truth(sample: Sample) -> NDArray[Any]:
    """Return a sample's labels.

    Raises
    ------
    StageError
        If it has none.
    """
    labels = sample.read_labels()
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
    """

    sample: Sample
    prediction: Path
    method: MethodSpec
    sets: tuple[ParameterSet, ...]
    outputs: tuple[Path, ...]
    fingerprints: tuple[str, ...]

    def __str__(self) -> str:
        return f"sample {self.sample.name} of {self.prediction.parent.name}"


def validate_sample(task: ValidationTask) -> None:
    """Label, repair and score one sample with each parameter set; instances are not kept."""
    method = task.method.build()
    prediction = read_prediction(task.prediction, method.heads)
    truth = read_truth(task.sample)
    ndim = task.sample.ndim
    labelled = method.label(prediction, [parameters.labelling for parameters in task.sets])
    todo = zip(task.sets, labelled, task.outputs, task.fingerprints, strict=True)
    for parameters, instances, output, fingerprint in todo:
        repaired = postprocess(instances, parameters.postprocessing, ndim=ndim)
        settings = without_unread_scores(parameters.evaluation)
        write_scores(output, score(truth, repaired, settings, ndim=ndim), fingerprint)


def without_unread_scores(settings: EvaluationSettings) -> EvaluationSettings:
    """Return settings that skip centre lines where neither metric nor summary needs them."""
    needed = any(map(needs_centre_lines, (settings.metric, *settings.summary)))
    if needed or settings.localization_criterion == "cldice":
        return settings
    return settings.model_copy(update={"centre_lines": "skip"})
