import pytest
from pydantic import ValidationError

from instaseg.config.load import load_config
from instaseg.errors import ConfigError
from instaseg.methods import METHODS, load
from instaseg.methods.semantic.config import LabelSettings, SemanticSettings
from instaseg.metrics.config import ClassEvaluationSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_classes": 1}, "greater than or equal to 2"),
        ({"num_classes": 256}, "less than or equal to 255"),
        ({"num_classes": 3, "objects": "instances"}, "num_classes must be 2 where objects"),
        ({"ce_weight": 0}, "must not both be 0: nothing would be learnt"),
        (
            {"class_weights": (1, 2, 3)},
            r"class_weights must be 2 numbers, one per class, .*got \[1",
        ),
        ({"class_weights": (0, 0)}, "class_weights must be 2 numbers, one per class, not all 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        SemanticSettings(**values)


def test_thresholds_are_numbers_or_otsu():
    assert LabelSettings(threshold="otsu").threshold == "otsu"
    for wrong in ("yen", 1.5):
        with pytest.raises(ValidationError):
            LabelSettings(threshold=wrong)


def test_method_has_its_own_evaluation():
    assert load(METHODS["semantic"].evaluation) is ClassEvaluationSettings
    config = load_config([], ['method.name="semantic"', "method.num_classes=4"])
    assert isinstance(config.evaluation, ClassEvaluationSettings)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method.num_classes=3", 'evaluation.metric="classes.3.iou"'],
            r"\[evaluation\] metric: must name a score of classes 0 to 2"
            r" \(method.num_classes = 3\); got 'classes.3.iou'",
        ),
        (
            ['evaluation.metric="confusion_matrix.avS"'],
            r"\[evaluation\]: metric must name a score of classes; got 'confusion_matrix.avS'",
        ),
        (
            ["method.num_classes=3", "vote_instances.threshold=0.4"],
            r"\[vote_instances\] threshold: is for two classes; got 0.4 with"
            " method.num_classes = 3",
        ),
        (
            [
                "training.sampling.probability_random=0.0",
                "training.sampling.probability_overlap=0.5",
            ],
            r"probability_overlap: must be 0 with the method 'semantic'",
        ),
        (
            ["data.stack='z'"],
            r"\[data\]: stack = 'z' makes volumes of images: ndim must be 3; got 2",
        ),
    ],
)
def test_tables_that_disagree_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config([], ['method.name="semantic"', *overrides])
