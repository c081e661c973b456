"""Table ``[evaluation]``, the thresholds of the scores, and the names a score can have.

Nothing here imports numpy, so that a misspelt metric is found before any work.
"""

from __future__ import annotations

import difflib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from instaseg.settings import Shape, Table

Criterion = Literal["iou", "cldice"]
Assignment = Literal["hungarian", "greedy"]
CentreLines = Literal["measure", "skip"]
Boundaries = Literal["skip", "sections", "volume"]

AVERAGES: dict[str, tuple[str, tuple[float, ...]]] = {
    "avAP": ("AP", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
    "avAP19": ("AP", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "avFscore": ("fscore", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "avS": ("S", (0.5, 0.6, 0.7, 0.8, 0.9)),
    "avS10": ("S", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
}
"""Name of an average: the score it averages, and over which thresholds."""

THRESHOLDS: tuple[float, ...] = tuple(
    sorted({threshold for _, used in AVERAGES.values() for threshold in used})
)
"""Every threshold an average needs."""

COUNTS = ("AP_TP", "AP_FP", "AP_FN")
RATIOS = ("precision", "recall", "AP", "fscore", "S")
MATCHED_SCORES = ("mean_matched_score", "mean_true_score", "panoptic_quality")
MERGES_AND_SPLITS = ("false_split", "false_merge")
MATCHED_LINES = ("clDice_TP", "avg_tp_skel_coverage")
GENERAL_LINES = ("avg_gt_skel_coverage", "FS", "FM", "avg_f1_cov_score")
GENERAL_BOUNDARIES = ("rRAND", "rINF")
SUBSETS = ("overlapping", "dim")
SIZES = ("small", "medium", "large")
"""Subsets of true instances by size, where there are limits of sizes."""
SUBSET_SCORES = ("Num GT", "TP", "recall_0_5", "mean_iou")
SUBSET_LINES = ("coverage",)

LOWER_IS_BETTER = frozenset(
    {
        "AP_FP",
        "AP_FN",
        "FP",
        "FN",
        "distance",
        "false_split",
        "false_merge",
        "FS",
        "FM",
        "skipped",
    }
)
"""Last parts of names that count errors, whatever the result."""

OF_CLASSES = (
    "accuracy",
    "mean_iou",
    "foreground_iou",
    "mean_dice",
    "foreground_dice",
    "boundary_iou",
    "patch_iou",
    "patches",
    "skipped",
    "voxels",
)
"""Scores of all classes together, ``general.<name>``."""
COUNTS_OF_CLASS = ("true", "predicted", "shared", "boundary_either", "boundary_shared")
"""Voxels of one class: in the truth, in the prediction, in both; of its boundaries."""
OF_CLASS = ("iou", "dice", "precision", "recall", "boundary_iou", *COUNTS_OF_CLASS)
"""Scores of one class, ``classes.<number>.<name>``."""
OF_POINTS = ("pre", "post", "cleft", "connections")
"""What scores of points are about."""
OF_POINT_KIND = ("TP", "FP", "FN", "precision", "recall", "F1", "distance")
"""Scores of one of them, ``<of points>.<name>``."""
CLASS_COUNTS = ("Num GT", "Num Pred", *COUNTS)
"""Counts of the instances of one class, ``classes.<number>.<name>``."""
CLASS_MEANS = ("fscore", "S", "panoptic_quality")
"""Scores of instances by class, averaged over classes, ``classes.mean.<name>``."""
MOST_CLASSES = 255
"""Classes that fit in a byte beside a value for what is ignored."""


def threshold_key(threshold: float) -> str:
    """Return the name of a threshold in the scores.

    Examples
    --------
    >>> threshold_key(0.5), threshold_key(0.55), threshold_key(0.0)
    ('th_0_5', 'th_0_55', 'th_0')
    """
    digits = f"{threshold:.6f}".rstrip("0").rstrip(".")
    return "th_" + digits.replace(".", "_")


def with_needed(thresholds: Sequence[float]) -> list[float]:
    """Return the thresholds together with those the averages need, ascending."""
    return sorted({*thresholds, *THRESHOLDS})


def score_names(
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    centre_lines: CentreLines = "measure",
    boundaries: Boundaries = "skip",
    subsets: Sequence[str] = SUBSETS,
) -> list[str]:
    """Return every dotted name that ``score_instances`` gives a value to, in its order.

    Parameters
    ----------
    thresholds : sequence of float
        Thresholds asked for; those of the averages are always there too.
    centre_lines : {"measure", "skip"}
        As given to ``score_instances``; `skip` leaves out what needs centre lines.
    boundaries : {"skip", "sections", "volume"}
        As given to ``score_instances``; `skip` leaves out rRAND and rINF.
    subsets : sequence of str
        Those of true instances, with those by size where there are limits.

    Returns
    -------
    list of str
        For example ``general.Num GT``, ``subsets.overlapping.recall_0_5`` and
        ``confusion_matrix.th_0_5.AP``.
    """
    lines = centre_lines == "measure"
    names = ["general.Num GT", "general.Num Pred", "general.Num skipped"]
    names += [f"general.{name}" for name in GENERAL_LINES if lines]
    names += [f"general.{name}" for name in GENERAL_BOUNDARIES if boundaries != "skip"]
    per_subset = (*SUBSET_SCORES, *(SUBSET_LINES if lines else ()))
    names += [f"subsets.{subset}.{name}" for subset in subsets for name in per_subset]
    matched = (*MATCHED_SCORES, *MERGES_AND_SPLITS, *(MATCHED_LINES if lines else ()))
    per_threshold = (*COUNTS, *RATIOS, *matched)
    names += [
        f"confusion_matrix.{threshold_key(threshold)}.{name}"
        for threshold in with_needed(thresholds)
        for name in per_threshold
    ]
    return names + [f"confusion_matrix.{name}" for name in AVERAGES]


def instance_class_score_names(count: int = MOST_CLASSES - 1) -> list[str]:
    """Return every dotted name of a score of instances by class, for so many classes.

    Returns
    -------
    list of str
        For example ``classes.accuracy``, ``classes.mean.fscore`` and ``classes.1.AP_TP``.
    """
    names = [f"classes.{name}" for name in ("matched", "right", "accuracy")]
    names += [f"classes.mean.{name}" for name in CLASS_MEANS]
    of_one = (*CLASS_COUNTS, *RATIOS, *MATCHED_SCORES)
    return names + [f"classes.{n}.{name}" for n in range(1, count + 1) for name in of_one]


def needs_centre_lines(name: str) -> bool:
    """Return whether the score with this dotted name needs centre lines."""
    return name.rsplit(".", 1)[-1] in (*GENERAL_LINES, *MATCHED_LINES, *SUBSET_LINES)


def needs_boundaries(name: str) -> bool:
    """Return whether the score with this dotted name is one of boundaries."""
    return name.rsplit(".", 1)[-1] in GENERAL_BOUNDARIES


def class_score_names(num_classes: int = MOST_CLASSES) -> list[str]:
    """Return every dotted name that ``score_classes`` gives a value to, in its order.

    Parameters
    ----------
    num_classes : int
        Classes with the background; the names go up to class ``num_classes - 1``.

    Returns
    -------
    list of str
        For example ``general.mean_iou`` and ``classes.1.dice``; the cells of the confusion matrix,
        which are written too, are left out.
    """
    names = [f"general.{name}" for name in OF_CLASSES]
    return names + [f"classes.{n}.{name}" for n in range(num_classes) for name in OF_CLASS]


def point_score_names() -> list[str]:
    """Return every dotted name that ``score_points`` gives a value to, in its order."""
    return [f"{part}.{name}" for part in OF_POINTS for name in OF_POINT_KIND]


def direction(name: str) -> Literal["higher", "lower"]:
    """Return which values of the score with this dotted name are the better ones."""
    return "lower" if name.rsplit(".", 1)[-1] in LOWER_IS_BETTER else "higher"


def unknown_names(key: str, names: Sequence[str], valid: Sequence[str], of: str = "") -> list[str]:
    """Return one problem for every name that is not valid, with the nearest valid one.

    Parameters
    ----------
    key : str
        Key that holds the names.
    names, valid : sequence of str
        Names of scores, and those there are.
    of : str
        What the scores are of, with a blank before it; for the message.
    """
    problems = []
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
            problems.append(
                f"{key} must name a score{of}; got {name!r}, the nearest is {near[0]!r}"
            )
    return problems


class ComparisonSettings(Table):
    """What every table ``[evaluation]`` says, whatever the method gives."""

    metric: str
    """Score that chooses the best checkpoint and parameters and orders the worst samples, a dotted
    name."""
    summary: tuple[str, ...]
    """Scores that become columns of `summary.csv` and of the printed table, dotted names."""
    average: Literal["images", "pooled"] = "images"
    """How one number is made of many samples: `images`, the mean over samples, or `pooled`, from
    counts summed over samples; both are written, this one chooses."""
    baseline: str
    """Comparison beside the method's score."""
    worst: int = Field(default=5, ge=0)
    """Number of samples listed with the lowest score."""

    @abstractmethod
    def without_unread_scores(self) -> Self:
        """Return settings that skip what costs time and neither metric nor summary needs."""


class ClassEvaluationSettings(ComparisonSettings):
    """How classes are compared with the ground truth."""

    metric: str = "general.foreground_iou"
    """Score that chooses the best checkpoint and parameters and orders the worst samples, a dotted
    name such as `general.mean_iou` or `classes.1.dice`."""
    summary: tuple[str, ...] = (
        "general.accuracy",
        "general.mean_iou",
        "general.foreground_iou",
        "general.foreground_dice",
        "general.boundary_iou",
        "general.skipped",
    )
    """Scores that become columns of `summary.csv` and of the printed table, dotted names."""
    baseline: Literal["otsu", "none"] = "otsu"
    """Comparison beside the method's score: `otsu`, threshold of the raw image, or `none`. There is
    none where there are more than two classes."""
    boundary_distance: float = Field(default=2.0, ge=0)
    """Voxels at most this far from what is not their class are its boundary, for boundary IoU; in
    units of the smallest side of a voxel. 0 leaves boundary IoU without a value."""
    patch_shape: Shape | None = None
    """Sides in voxels of patches, such as those the network is trained with, whose IoU is averaged
    as `general.patch_iou`; left out, that has no value. It differs from the IoU of whole images."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        known = set(class_score_names())
        problems = []
        for key, names in (("metric", (self.metric,)), ("summary", self.summary)):
            unknown = [name for name in names if name not in known]
            # the nearest of two classes: of all, a search would take a second
            problems += unknown_names(key, unknown, class_score_names(2), " of classes")
        if self.patch_shape is None and "general.patch_iou" in (self.metric, *self.summary):
            problems.append(
                "patch_shape must be given where general.patch_iou is a score; got none"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def without_unread_scores(self) -> Self:
        """Return settings that skip boundaries and patches that no score needs."""
        names = (self.metric, *self.summary)
        skipped: dict[str, Any] = {}
        if not any(map(_is_boundary, names)):
            skipped["boundary_distance"] = 0.0
        if "general.patch_iou" not in names:
            skipped["patch_shape"] = None
        return self.model_copy(update=skipped)


def _is_boundary(name: str) -> bool:
    return name.rsplit(".", 1)[-1].startswith("boundary_")


class PointEvaluationSettings(ComparisonSettings):
    """How points and their connections are compared with the ground truth."""

    tolerance: float = Field(gt=0)
    """Points closer than this are the same, in the unit of `data.voxel_size`; of a connection both
    ends."""
    metric: str = "connections.F1"
    """Score that chooses the best checkpoint and parameters and orders the worst samples, a dotted
    name such as `connections.F1` or `cleft.F1`."""
    summary: tuple[str, ...] = (
        "pre.F1",
        "post.F1",
        "cleft.F1",
        "connections.TP",
        "connections.FP",
        "connections.FN",
        "connections.precision",
        "connections.recall",
        "connections.F1",
    )
    """Scores that become columns of `summary.csv` and of the printed table, dotted names; those of
    what the method does not predict have no value."""
    baseline: Literal["none"] = "none"
    """Comparison beside the method's score; there is none for points."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        valid = point_score_names()
        problems = unknown_names("metric", [self.metric], valid, " of points")
        problems += unknown_names("summary", self.summary, valid, " of points")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def without_unread_scores(self) -> Self:
        """Return the same: all scores of points are quick."""
        return self


class EvaluationSettings(ComparisonSettings):
    """How instances are compared with the ground truth."""

    metric: str = "confusion_matrix.avS"
    """Score that chooses the best checkpoint and parameters and orders the worst samples, a dotted
    name such as `confusion_matrix.avAP` or `confusion_matrix.th_0_5.S`."""
    localization_criterion: Criterion = "iou"
    """Score of a pair of instances: `iou`, intersection over union of their voxels, or `cldice`,
    agreement of their centre lines, for thin and branching objects."""
    assignment_strategy: Assignment = "hungarian"
    """How pairs are matched one to one: `hungarian`, as many matches as possible, or `greedy`, the
    best pair first."""
    thresholds: tuple[float, ...] = THRESHOLDS
    """A pair counts as a match when its score is larger than the threshold, from 0 to below 1;
    those the averages (avS, avAP ...) need are always added."""
    remove_small_components: int = Field(default=0, ge=0)
    """Predicted instances of at most this many voxels are left out of the comparison; 0 keeps
    all."""
    size_limits: tuple[()] | tuple[PositiveInt, PositiveInt] = ()
    """Voxels of the largest small and of the largest medium true instance; adds scores of small,
    medium and large instances, `subsets.small.recall_0_5` ..."""
    partly: bool = False
    """True where the ground truth is labelled partly: a prediction that lies on unlabelled
    background is then not counted as false."""
    centre_lines: CentreLines = "measure"
    """`measure` computes centre lines (coverage, FS, FM); `skip` leaves these scores out, which is
    faster for large volumes."""
    boundaries: Boundaries = "skip"
    """Scores of boundaries, `general.rRAND` and `general.rINF`: `sections` compares every plane of
    its own (its instances too), `volume` the whole volume, `skip` leaves them out; instances must
    not overlap."""
    summary: tuple[str, ...] = (
        "general.Num GT",
        "general.Num Pred",
        "confusion_matrix.th_0_5.AP_TP",
        "confusion_matrix.th_0_5.AP_FP",
        "confusion_matrix.th_0_5.AP_FN",
        "confusion_matrix.th_0_5.S",
        "confusion_matrix.th_0_7.S",
        "confusion_matrix.th_0_9.S",
        "confusion_matrix.avS",
        "confusion_matrix.avAP",
        "confusion_matrix.avFscore",
    )
    """Scores that become columns of `summary.csv` and of the printed table, dotted names."""
    baseline: Literal["otsu", "none"] = "otsu"
    """Comparison beside the method's score: `otsu`, threshold and connected components of the raw
    image, or `none`."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        problems = []
        if not self.thresholds or not all(0 <= t < 1 for t in self.thresholds):
            problems.append(f"thresholds must be numbers from 0 to below 1; got {self.thresholds}")
        if self.localization_criterion == "cldice" and self.centre_lines == "skip":
            problems.append(
                "centre_lines must be 'measure' where localization_criterion is 'cldice';"
                " got 'skip'"
            )
        limits = self.size_limits
        if limits and limits[0] >= limits[1]:
            problems.append(f"size_limits must ascend; got {list(limits)}")
        valid = score_names(
            self.thresholds,
            centre_lines=self.centre_lines,
            boundaries=self.boundaries,
            subsets=(*SUBSETS, *(SIZES if limits else ())),
        )
        valid += instance_class_score_names(2)
        of_classes = set(instance_class_score_names())
        quality = [name for name in valid if not name.rsplit(".", 1)[-1].startswith("Num")]
        metric = [name for name in [self.metric] if name not in of_classes or ".Num " in name]
        summary = [name for name in self.summary if name not in of_classes]
        # the nearest of two classes: of all, a search would take a second
        problems += unknown_names("metric", metric, quality)
        problems += unknown_names("summary", summary, valid)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def without_unread_scores(self) -> Self:
        """Return settings that skip centre lines and boundaries where nothing needs them."""
        names = (self.metric, *self.summary)
        skipped = {}
        if self.localization_criterion != "cldice" and not any(map(needs_centre_lines, names)):
            skipped["centre_lines"] = "skip"
        if not any(map(needs_boundaries, names)):
            skipped["boundaries"] = "skip"
        return self.model_copy(update=skipped) if skipped else self


REMOVED_KEYS: dict[str, str] = {
    "num_workers": "set [general] num_workers",
    "from_scratch": "removed: finished scores are reused only if nothing changed; --overwrite"
    " computes them again",
    "res_key": "removed: the stage knows which array the stage before it wrote",
    "keep_gt_shape": "removed: overlapping instances are recognised by their channel axis",
    "evaluate_false_labels": "removed: false_split and false_merge are always computed",
    "add_general_metrics": "removed: all general scores are always computed; see"
    " [evaluation] centre_lines",
    "add_multi_thresh_metrics": "removed: all averages over thresholds are always computed",
    "average_over_samples": "set [evaluation] average = 'images' or 'pooled'",
    "use_linear_sum_assignment": "set [evaluation] assignment_strategy = 'hungarian' or 'greedy'",
    "foreground_only": "removed: background is never an instance",
    "background": "removed: label 0 is background",
    "filterSz": "set [evaluation] remove_small_components",
    "overlapping_inst": "removed: overlapping instances are recognised by their channel axis",
    "visualize": "removed: --do visualize draws the overlays; see [visualize]",
    "visualize_type": "removed: --do visualize draws 2-D and 3-D alike; see [visualize]",
    "debug": "set [general] logging = 'DEBUG'",
}
"""Keys of the published tool's ``[evaluation]`` that are gone: what replaces them."""
