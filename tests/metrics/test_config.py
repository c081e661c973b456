import subprocess
import sys

import pytest
from pydantic import ValidationError

from instaseg.metrics.config import (
    REMOVED_KEYS,
    ClassEvaluationSettings,
    EvaluationSettings,
    direction,
    needs_centre_lines,
    score_names,
    threshold_key,
)


def test_defaults_are_valid():
    assert EvaluationSettings().metric == "confusion_matrix.avS"


def test_no_key_is_both_removed_and_there():
    assert not set(REMOVED_KEYS) & set(EvaluationSettings.model_fields)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metric": "confusion_matrix.avs"}, "the nearest is 'confusion_matrix.avS'"),
        ({"metric": "confusion_matrix.th_0_5.Ap"}, "the nearest is 'confusion_matrix.th_0_5.AP'"),
        ({"metric": "general.Num GT"}, "metric must name a score; got 'general.Num GT'"),
        ({"summary": ("general.NumGT",)}, "summary must name a score; got 'general.NumGT'"),
        ({"thresholds": (0.5, 1.0)}, r"thresholds must be numbers from 0 to below 1; got \(0.5, 1"),
        ({"thresholds": ()}, "thresholds must be numbers"),
        (
            {"metric": "general.FS", "centre_lines": "skip"},
            "metric must name a score; got 'general.FS'",
        ),
        (
            {"localization_criterion": "cldice", "centre_lines": "skip"},
            "centre_lines must be 'measure' where localization_criterion is 'cldice'",
        ),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(ValidationError, match=message):
        EvaluationSettings(**values)


def test_all_mistakes_at_once():
    with pytest.raises(ValidationError, match=r"metric must .*; summary must"):
        EvaluationSettings(metric="x", summary=("y",))


def test_own_thresholds_can_be_named():
    settings = EvaluationSettings(metric="confusion_matrix.th_0_33.S", thresholds=(0.33,))
    assert settings.metric in score_names(settings.thresholds)


def test_scores_by_size_exist_where_there_are_limits():
    name = "subsets.small.recall_0_5"
    assert EvaluationSettings(metric=name, size_limits=(10, 20)).metric == name
    with pytest.raises(ValidationError, match=r"metric must name a score; got 'subsets.small"):
        EvaluationSettings(metric=name)
    with pytest.raises(ValidationError, match=r"size_limits must ascend; got \[20, 20\]"):
        EvaluationSettings(size_limits=(20, 20))


def test_names():
    assert threshold_key(0.55) != threshold_key(0.5)
    assert len(score_names()) == len(set(score_names()))
    assert needs_centre_lines("general.avg_gt_skel_coverage")
    assert not needs_centre_lines("confusion_matrix.avS")
    assert direction("confusion_matrix.th_0_5.false_merge") == "lower"
    assert direction("confusion_matrix.avS") == "higher"


def test_config_loads_without_heavy_packages():
    code = (
        "import sys, instaseg.metrics.config, instaseg.postprocess.config, instaseg.report.config;"
        "print([m for m in ('numpy', 'scipy', 'skimage', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_class_settings_name_scores_of_classes():
    assert ClassEvaluationSettings(metric="classes.3.dice").metric == "classes.3.dice"
    with pytest.raises(ValidationError, match=r"metric must name a score of classes; got 'confus"):
        ClassEvaluationSettings(metric="confusion_matrix.avS")
    with pytest.raises(ValidationError, match=r"summary must name a score of classes; got 'classe"):
        ClassEvaluationSettings(summary=("classes.1.IoU",))
    with pytest.raises(ValidationError, match=r"metric must name a score; got 'general.mean_iou'"):
        EvaluationSettings(metric="general.mean_iou")


def test_scores_nobody_reads_are_skipped():
    assert ClassEvaluationSettings().without_unread_scores() == ClassEvaluationSettings()
    few = ClassEvaluationSettings(summary=("general.accuracy",))
    assert few.without_unread_scores().boundary_distance == 0
    plain = EvaluationSettings().without_unread_scores()
    assert (plain.centre_lines, plain.boundaries) == ("skip", "skip")
    wanted = EvaluationSettings(metric="general.FS").without_unread_scores()
    assert wanted.centre_lines == "measure"
