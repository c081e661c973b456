"""Table ``[evaluation]``, the thresholds of the scores, and the names a score can have.

Nothing here imports numpy, so that a misspelt metric is found before any work.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from instaseg.settings import Table

Criterion = Literal["iou", "cldice"]
Assignment = Literal["hungarian", "greedy"]
CentreLines = Literal["measure", "skip"]
Boundaries = Literal["skip", "sections", "volume"]

AVERAGES: dict[str, tuple[str, tuple[float, ...]]] = {
    "avAP": ("AP", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
    "avAP19": ("AP", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "avFscore": ("fscore", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    "avS": ("S", (0.5, 0.6, 0.7, 0.8, 0.9)),
}
"""Name of an average: the score it averages, and over which thresholds."""

THRESHOLDS: tuple[float, ...] = tuple(
    sorted({threshold for _, used in AVERAGES.values() for threshold in used})
)
"""Every threshold an average needs."""

COUNTS = ("AP_TP", "AP_FP", "AP_FN")
RATIOS = ("precision", "recall", "AP", "fscore", "S")
MERGES_AND_SPLITS = ("false_split", "false_merge")
MATCHED_LINES = ("clDice_TP", "avg_tp_skel_coverage")
GENERAL_LINES = ("avg_gt_skel_coverage", "FS", "FM", "avg_f1_cov_score")
GENERAL_BOUNDARIES = ("rRAND", "rINF")
SUBSETS = ("overlapping", "dim")
SUBSET_SCORES = ("Num GT", "TP", "recall_0_5", "mean_iou")
SUBSET_LINES = ("coverage",)

LOWER_IS_BETTER = frozenset({"AP_FP", "AP_FN", "false_split", "false_merge", "FS", "FM"})
"""Last parts of names that count errors."""


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

    Returns
    -------
    list of str
        For example ``general.Num GT``, ``subsets.overlapping.recall_0_5`` and
        ``confusion_matrix.th_0_5.AP``.
    """
    lines = centre_lines == "measure"
    names = ["general.Num GT", "general.Num Pred"]
    names += [f"general.{name}" for name in GENERAL_LINES if lines]
    names += [f"general.{name}" for name in GENERAL_BOUNDARIES if boundaries != "skip"]
    per_subset = (*SUBSET_SCORES, *(SUBSET_LINES if lines else ()))
    names += [f"subsets.{subset}.{name}" for subset in SUBSETS for name in per_subset]
    per_threshold = (*COUNTS, *RATIOS, *MERGES_AND_SPLITS, *(MATCHED_LINES if lines else ()))
    names += [
        f"confusion_matrix.{threshold_key(threshold)}.{name}"
        for threshold in with_needed(thresholds)
        for name in per_threshold
    ]
    return names + [f"confusion_matrix.{name}" for name in AVERAGES]


def needs_centre_lines(name: str) -> bool:
    """Return whether the score with this dotted name needs centre lines."""
    return name.rsplit(".", 1)[-1] in (*GENERAL_LINES, *MATCHED_LINES, *SUBSET_LINES)


def needs_boundaries(name: str) -> bool:
    """Return whether the score with this dotted name is one of boundaries."""
    return name.rsplit(".", 1)[-1] in GENERAL_BOUNDARIES


def direction(name: str) -> Literal["higher", "lower"]:
    """Return which values of the score with this dotted name are the better ones."""
    return "lower" if name.rsplit(".", 1)[-1] in LOWER_IS_BETTER else "higher"


def _unknown_names(key: str, names: Sequence[str], valid: Sequence[str]) -> list[str]:
    """Return one problem for every name that is not valid, with the nearest valid one."""
    problems = []
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
            problems.append(f"{key} must name a score; got {name!r}, the nearest is {near[0]!r}")
    return problems


class EvaluationSettings(Table):
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
    average: Literal["images", "pooled"] = "images"
    """How one number is made of many samples: `images`, the mean over samples, or `pooled`, from
    counts summed over samples; both are written, this one chooses."""
    baseline: Literal["otsu", "none"] = "otsu"
    """Comparison beside the method's score: `otsu`, threshold and connected components of the raw
    image, or `none`."""
    worst: int = Field(default=5, ge=0)
    """Number of samples listed with the lowest score."""

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
        valid = score_names(
            self.thresholds, centre_lines=self.centre_lines, boundaries=self.boundaries
        )
        quality = [name for name in valid if not name.rsplit(".", 1)[-1].startswith("Num")]
        problems += _unknown_names("metric", [self.metric], quality)
        problems += _unknown_names("summary", self.summary, valid)
        if problems:
            raise ValueError("; ".join(problems))
        return self


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
