"""Checks before any work: each stage finds what it reads, shapes fit, data are in order."""

from __future__ import annotations

import difflib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from instaseg.config.schema import agreement
from instaseg.data.check import Overlaps, TruthFaults, check_augmentation, check_samples
from instaseg.errors import ConfigError, DataError, InstasegError
from instaseg.inference.augmentation import symmetries
from instaseg.io.samples import Sample
from instaseg.methods.base import LabelsSomeInBlocks, Method
from instaseg.metrics.config import EvaluationSettings, instance_class_score_names
from instaseg.models.shapes import check_input_shape
from instaseg.postprocess.config import ON_PREDICTIONS
from instaseg.run.experiment import Experiment, latest_experiment
from instaseg.run.setups import load_code
from instaseg.run.sweep import ParameterSet, combinations
from instaseg.settings import Table
from instaseg.stages.context import Context, Role
from instaseg.stages.folds import find_folds
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scene import check_sample, check_settings
from instaseg.stages.sizes import blocks_of
from instaseg.stages.table import STAGES, Stage
from instaseg.stages.training_data import training_data


@dataclass(frozen=True)
class Artifact:
    """Something a stage writes and another reads.

    Parameters
    ----------
    description : str
        For messages.
    patterns : tuple of str
        Globs below the experiment folder; a match of one means it exists.
    made_from_it : tuple of str
        Globs of what was made from it; a match means that it need not be there any more.
    """

    description: str
    patterns: tuple[str, ...]
    made_from_it: tuple[str, ...] = ()

    def is_in(self, folder: Path) -> bool:
        """Return whether it is in an experiment folder, or no longer needed there."""
        return any(any(folder.glob(p)) for p in (*self.patterns, *self.made_from_it))


Labels = Literal["required", "optional"]
FOLDS = "folds"
"""Stands for the samples of all folds where data sets are named."""
LABELLED = tuple(f"*/instances/*/*/*.zarr/{kind.key}" for kind in RESULTS.values())


ARTIFACTS: dict[str, Artifact] = {
    "network": Artifact("a network summary", ("network/network.toml",)),
    "checkpoints": Artifact("a checkpoint", ("train/checkpoints/*.pt",)),
    "validation": Artifact("a validated checkpoint", ("val*/best.toml",)),
    "predictions": Artifact("a prediction", ("*/predicted/*/*.zarr",), made_from_it=LABELLED),
    "instances": Artifact("instances", LABELLED),
    "scores": Artifact("scores", ("*/evaluated/*/*/summary.csv",)),
}


VALIDATING = frozenset({"validate", "validate_checkpoints", "cross_validate"})
_WRONG = "things are wrong:"
PREDICTING = VALIDATING | {"predict"}
BY_ONE_CHECKPOINT = frozenset(
    {"validate", "predict", "label", "postprocess", "evaluate", "visualize", "export", "compare"}
)


def check(stages: Sequence[Stage], context: Context) -> None:
    """Check everything that can be checked before work.

    Raises
    ------
    InstasegError
        If anything is wrong; lists all of it.
    """
    _ = context.method  # everything else asks it: if it cannot be built, that is the fault
    faults: list[InstasegError] = []
    checks = (
        *(check_history, check_sweep, check_scores, check_repair, check_postprocessing),
        *(check_network, check_blocks, check_data),
    )
    for part in checks:
        try:
            part(stages, context)
        except InstasegError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    # several checks may meet the same fault
    messages = list(dict.fromkeys(text for fault in faults for text in _single(str(fault))))
    if messages:
        raise ConfigError(_together(messages))


def _together(faults: Sequence[str]) -> str:
    """Return one message for several faults."""
    if len(faults) == 1:
        return faults[0]
    return "\n- ".join([f"{len(faults)} {_WRONG}", *faults])


def _single(message: str) -> list[str]:
    """Return the faults that :func:`_together` made one message of."""
    first, *faults = message.split("\n- ")
    return faults if first.endswith(_WRONG) else [message]


def check_history(stages: Sequence[Stage], context: Context) -> None:
    """Check that what earlier runs should have written is there, and the checkpoint asked for.

    Raises
    ------
    ConfigError, CheckpointError, StageError
        If it is not.
    """
    check_artifacts(stages, context.experiment)
    names, options = {stage.name for stage in stages}, context.options
    if not names & BY_ONE_CHECKPOINT:
        return
    from instaseg.stages.selection import chosen_or_last, select

    if options.checkpoint is not None:
        # Also where training comes first: which checkpoints it will keep is not known yet.
        chosen_or_last(context)
    elif options.test_checkpoint == "best" and not names & {
        "train",
        "validate",
        "validate_checkpoints",
    }:
        select(context)


def check_sweep(stages: Sequence[Stage], context: Context) -> None:
    """Check that values of every parameter set go together, and the score that chooses is one.

    Raises
    ------
    ConfigError
        If they do not, with each other or with the method, or it is none.
    """
    names = {stage.name for stage in stages}
    choosing = {"train", "validate", "validate_checkpoints"}
    if names & choosing and context.config.validation.prediction_only:
        _check_prediction_metric(context)
    if "cross_validate" in names and context.config.validation.prediction_only:
        raise ConfigError(
            "[validation] prediction_only: expected false for --do cross_validate, which compares"
            " results; found true. Set it to false, or use --do validate_checkpoints"
        )
    if names & {"train", *VALIDATING}:  # before training, too: what comes after it is set already
        for values in combinations(context.config.validation):
            _check_agreement(context, context.parameters(values))


def _check_prediction_metric(context: Context) -> None:
    """Check that the method gives the score that is to choose the checkpoint.

    Raises
    ------
    ConfigError
        If it does not; names the nearest one.
    """
    wanted, names = context.config.validation.prediction_metric, context.method.quality_names
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.0)
        raise ConfigError(
            f"[validation] prediction_metric: expected a score of predictions, found {wanted!r};"
            f" the nearest is {near[0]!r}"
        )


def _check_agreement(context: Context, parameters: ParameterSet) -> None:
    """Check that a parameter set agrees with the method, as the configuration's own values do."""
    config = context.config
    tables = {name: getattr(config, name) for name in type(config).model_fields}
    for wrong in agreement(tables | parameters.tables):
        table, *keys = wrong.place
        raise ConfigError(
            f"[validation] parameters {parameters.name}: [{table}] {'.'.join(keys)}:"
            f" {wrong.message}"
        )


def check_scores(stages: Sequence[Stage], context: Context) -> None:
    """Check that scores by class are asked for only of classes that instances have.

    Raises
    ------
    ConfigError
        If they are of others; names the key.
    """
    del stages
    evaluation, method = context.config.evaluation, context.method
    if method.result != "instances":
        return
    known = set(instance_class_score_names(method.instance_classes))
    for key, names in (("metric", (evaluation.metric,)), ("summary", evaluation.summary)):
        for name in names:
            if name.startswith("classes.") and (name not in known or not method.instance_classes):
                raise ConfigError(
                    f"[evaluation] {key}: {name!r} is a score by class, but instances have"
                    f" {method.instance_classes or 'no'} classes; set"
                    " method.instance_classes.count, or name another score"
                )


def check_repair(stages: Sequence[Stage], context: Context) -> None:
    """Check that instances are not to be repaired where the method gives none.

    Raises
    ------
    ConfigError
        If a key of ``[postprocessing]`` that concerns instances differs from its default.
    """
    del stages
    result = context.method.result
    if RESULTS[result].repaired is not None:
        return
    sets = [context.parameters(values) for values in combinations(context.config.validation)]
    for settings in [context.config.postprocessing, *(each.postprocessing for each in sets)]:
        for name, field in type(settings).model_fields.items():
            if name not in ON_PREDICTIONS and getattr(settings, name) != field.default:
                raise ConfigError(
                    f"[postprocessing] {name}: repairs instances, but the method"
                    f" {context.config.method.model_dump()['name']!r} gives {result}; remove the"
                    f" key (what works on predictions: {', '.join(sorted(ON_PREDICTIONS))})"
                )


def check_postprocessing(stages: Sequence[Stage], context: Context) -> None:
    """Check that post-processing suits method, axes and samples, with every parameter set.

    Raises
    ------
    ConfigError, DataError
        If it does not.
    """
    repairing = [stage for stage in stages if stage.name in {"label", "postprocess"} | VALIDATING]
    training = any(stage.name == "train" for stage in stages)
    if not repairing and not training:
        return
    # A value that a sweep replaces need not suit anything.
    swept = training or any(stage.name in VALIDATING for stage in repairing)
    values = combinations(context.config.validation) if swept else [{}]
    sets = dict.fromkeys(context.parameters(chosen).postprocessing for chosen in values)
    for settings in sets:
        check_settings(settings, context.method, context.config.data.ndim)
    needs = {need for stage in repairing for need in _data_of(stage, context)}
    for name in sorted({need.partition("+")[0] for need in needs}):
        for sample in _samples_found(name, context):
            for settings in sets:
                check_sample(sample, settings)


def check_blocks(stages: Sequence[Stage], context: Context) -> None:
    """Check that samples that do not fit in memory, or in a block, can be labelled in blocks.

    Raises
    ------
    ConfigError
        If parameters need the whole; names a sample.
    """
    names = {stage.name for stage in stages}
    labelled = [("test", "label" in names), ("val", bool(names & VALIDATING))]
    roles = [role for role, wanted in labelled if wanted]
    if not isinstance(context.method, LabelsSomeInBlocks):
        return
    for sample in (one for role in roles for one in _samples_found(role, context)):
        try:
            shape = sample.open_raw().shape[1:]
        except InstasegError:
            continue  # check_data says what is wrong
        block = blocks_of(context.method, shape, context.config.general.block_shape)
        if block is None:
            continue
        for labelling in _labellings(names, context):
            try:
                context.method.check_blocks(labelling)
            except ConfigError as error:
                given = context.config.general.block_shape is not None
                other = "leave out general.block_shape" if given else "cut smaller samples"
                raise ConfigError(
                    f"{error}, or {other} (sample {sample.name}, {list(shape)}, in blocks of"
                    f" {list(block)})"
                ) from error
        return


def _samples_found(name: str, context: Context) -> list[Sample]:
    """Return the samples of a data set; none where it is wrong, which check_data tells."""
    try:
        return _samples_of(name, context)
    except InstasegError:
        return []


def _labellings(names: Set[str], context: Context) -> list[Table]:
    """Return the tables ``[vote_instances]`` that ``label`` may use."""
    if "train" in names or names & VALIDATING:
        values = combinations(context.config.validation) if names & VALIDATING else [{}]
        return [context.parameters(chosen).labelling for chosen in values]
    from instaseg.stages.selection import select

    return [select(context).parameters.labelling]


def check_artifacts(stages: Sequence[Stage], experiment: Experiment) -> None:
    """Check that what each stage reads exists or is written by an earlier one.

    Raises
    ------
    ConfigError
        If something is missing; names the stage that would write it.
    """
    written: set[str] = set()
    for stage in stages:
        for name in stage.reads:
            artifact = ARTIFACTS[name]
            if name not in written and not artifact.is_in(experiment.folder):
                writers = " or ".join(s.name for s in STAGES if name in s.writes)
                raise ConfigError(
                    f"--do {stage.name}: expected {artifact.description}"
                    f" {_where(experiment, artifact)}; run {writers} before it, or give the"
                    f" experiment that has it with -id{_latest(experiment)}"
                )
        written.update(stage.writes)


def _where(experiment: Experiment, artifact: Artifact) -> str:
    if experiment.folder.exists():
        return f"in {experiment.folder / artifact.patterns[0]}, found none"
    return "in the experiment, but without -id a new one begins, which has none"


def _latest(experiment: Experiment) -> str:
    """Return a hint at the last experiment, where the stages are not for one that exists."""
    latest = None if experiment.folder.exists() else latest_experiment(experiment.folder.parent)
    return "" if latest is None else f" (the latest is {latest})"


def check_data(stages: Sequence[Stage], context: Context) -> None:
    """Read every sample the stages need once, and check the network's shapes against them.

    Raises
    ------
    DataError, ConfigError
        If anything is wrong; lists all of it.
    """
    needs = {need for stage in stages for need in _data_of(stage, context)}
    if _has_validation_loss(stages, context):
        needs.add("val")
    problems = []
    for need in sorted(needs):
        labels: Labels = "required" if need.endswith("+labels") else "optional"
        if labels == "optional" and f"{need}+labels" in needs:
            continue
        try:
            samples = _samples_of(need.partition("+")[0], context)
            check_samples(
                samples,
                context.config.data,
                labels=labels,
                least_shape=_least_shape(context),
                instances=_instances(need, stages, context),
                truth_faults=_truth_faults(context),
                instance_classes=context.method.instance_classes,
            )
            if (PREDICTING | {"train"}) & {stage.name for stage in stages}:
                _check_rotations(samples, context)
            check_together = RESULTS[context.method.result].check_together
            if labels == "required" and check_together is not None:
                check_together(samples, context.method_spec)
        except InstasegError as error:
            problems.append(str(error))
    if problems:
        raise DataError(_together(problems))


def _check_rotations(samples: Sequence[Sample], context: Context) -> None:
    """Check that images predicted in rotated positions look alike in them.

    Images to train with are checked too: those to predict have their voxels.
    """
    if context.config.prediction.symmetries != "flips_and_rotations":
        return
    for sample in samples:
        y, x = sample.resolution[-2:]
        if y != x:
            raise ConfigError(
                f"[prediction] symmetries: expected 'flips' or 'none' because the voxels of"
                f" {sample.name} have sides of {y:g} and {x:g} along y and x, found"
                " 'flips_and_rotations'; change it, or data.voxel_size"
            )


def _instances(need: str, stages: Sequence[Stage], context: Context) -> Overlaps:
    """Return whether instances of a data set may overlap: where the loss sees them, by method.

    Segmenting and scoring overlapping data with a method that keeps instances apart is allowed, but
    for scores of boundaries.
    """
    role = need.partition("+")[0]
    learnt = role == "train" or (role == "val" and _has_validation_loss(stages, context))
    if learnt and not context.method.labels_may_overlap:
        return "apart_to_learn"
    evaluation = context.config.evaluation
    boundaries = isinstance(evaluation, EvaluationSettings) and evaluation.boundaries != "skip"
    return "apart_to_score" if boundaries and role != "train" else "may_overlap"


def _truth_faults(context: Context) -> TruthFaults | None:
    """Return what checks ground truth that is not instances."""
    check = RESULTS[context.method.result].truth_faults
    return None if check is None else partial(check, method=context.method_spec)


def _data_of(stage: Stage, context: Context) -> tuple[str, ...]:
    """Return the data sets a stage needs; for cross validation the configuration chooses."""
    if stage.name != "cross_validate":
        return stage.data
    if context.config.validation.folds != "data_sets":
        return (f"{FOLDS}+labels",)
    folders = context.config.data.cross_val_folders
    return tuple(f"{folder.removesuffix('_data')}+labels" for folder in folders)


def _samples_of(name: str, context: Context) -> list[Sample]:
    """Return the samples of a data set, or of all folds of cross validation."""
    if name == FOLDS:
        return [sample for fold in find_folds(context) for sample in fold.dataset.samples]
    if name == "train":
        return list(training_data(context).samples)
    role: Role = name  # type: ignore[assignment]
    return list(context.dataset(role).samples)


def _has_validation_loss(stages: Sequence[Stage], context: Context) -> bool:
    """Return whether training will look at the validation data."""
    config = context.config
    trains = any(stage.name in ("train", "train_autoencoder") for stage in stages)
    return trains and config.training.val_log_step > 0 and config.data.validates


def check_network(stages: Sequence[Stage], context: Context) -> None:
    """Check what runs the network: shapes, device, and code that the setup brings.

    Raises
    ------
    ConfigError
        If shapes do not fit its levels, there is no such device, or code cannot be imported.
    """
    names = {stage.name for stage in stages}
    model = context.config.model
    if names & {"mknet", "train", "train_autoencoder"}:
        check_input_shape(model.train_input_shape, model, "model.train_input_shape")
    if names & {"train", "train_autoencoder", "sample_pictures"}:
        check_augmentation(
            context.config.training.augmentation,
            context.config.data,
            instances=_overlaps(context.method),
        )
    if names & {"train", "train_autoencoder"}:
        _check_watching(context)
    if names & {"mknet", "train", *PREDICTING}:
        check_input_shape(model.test_input_shape, model, "model.test_input_shape")
        _check_symmetries(context)
    if names & {"train", *PREDICTING}:
        _check_object_size(context)
    if names & {"mknet", "train", *PREDICTING}:
        load_code(context.setup_code, "torch_model.py")
    if "train" in names:
        load_code(context.setup_code, "torch_loss.py")
        if context.method.coding is not None:
            from instaseg.stages.decoders import check_decoder

            check_decoder(context, trained_before="train_autoencoder" in names)
    if (
        names & {"train", "train_autoencoder", *PREDICTING}
        and context.config.general.device == "cuda"
    ):
        from instaseg.training.devices import choose_device

        choose_device("cuda")


def _check_watching(context: Context) -> None:
    """Check that there is a validation loss where it decides on the course of the training."""
    training, data = context.config.training, context.config.data
    if training.watches_validation and not (training.val_log_step > 0 and data.validates):
        key = "patience" if training.patience else "schedule"
        raise ConfigError(
            f"[training] {key}: expected a validation loss to follow, found none; set"
            " training.val_log_step above 0 and data.val_data (or data.split.folds)"
        )


def _check_object_size(context: Context) -> None:
    """Check that the method gives something whose size can be measured."""
    target, result = context.config.data.object_size.target, context.method.result
    if target != "none" and result == "points":
        raise ConfigError(
            "[data.object_size] target: expected a method that gives instances or classes, found"
            ' one that gives points, which have no size; set it to "none"'
        )


def _overlaps(method: Method) -> Literal["may_overlap", "separate", "none"]:
    """Return what a method knows of instances on one voxel."""
    if method.result != "instances":
        return "none"
    return "may_overlap" if method.labels_may_overlap else "separate"


def _check_symmetries(context: Context) -> None:
    """Check that every head can be predicted in the turned positions that are asked for."""
    config = context.config
    for symmetry in symmetries(config.prediction.symmetries, config.data.ndim):
        for head in context.method.heads:
            head.turn(np.zeros((head.channels, *(1,) * config.data.ndim)), symmetry)


def _least_shape(context: Context) -> tuple[int, ...]:
    """Return the smallest image that holds what the method looks at around a voxel."""
    points = context.method_spec.truth == "points"
    if points or context.method.labels_beyond == "unknown":  # what lies there is just not there
        return (1,) * context.config.data.ndim
    return tuple(2 * reach + 1 for reach in context.method.context)
