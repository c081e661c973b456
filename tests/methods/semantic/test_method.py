import numpy as np
import pytest
import torch

from instaseg.data.config import DataSettings
from instaseg.methods.build import MethodSpec
from instaseg.methods.semantic import method as module
from instaseg.methods.semantic.config import LabelSettings, SemanticSettings
from instaseg.methods.semantic.quality import calibration_error, confidence, quality
from instaseg.models.config import ModelSettings

MODEL = ModelSettings(
    num_fmaps=2,
    downsample_factors=((2, 2),),
    padding="same",
    train_input_shape=(16, 16),
    test_input_shape=(16, 16),
)


def method(**values):
    return MethodSpec(SemanticSettings(**values), MODEL, DataSettings()).build()


@pytest.mark.parametrize(("num_classes", "channels"), [(2, 1), (3, 3)])
def test_network_and_loss_fit_together(num_classes, channels):
    torch.manual_seed(0)
    built = method(num_classes=num_classes, dice_weight=0.5, class_weights=(1.0,) * num_classes)
    outputs = built.build_network()(torch.rand(2, 1, 16, 16))
    assert outputs["classes"].shape == (2, channels, 16, 16)
    labels = torch.randint(-1, num_classes, (2, 1, 16, 16), dtype=torch.int32)
    batch = {"labels": labels, "mask": torch.ones(2, 16, 16, dtype=torch.bool)}
    total, parts = built.loss(outputs, batch)
    assert set(parts) == {"ce", "dice", "iou_error"}
    assert total.item() == pytest.approx((parts["ce"] + 0.5 * parts["dice"]).item(), rel=1e-5)
    total.backward()


def test_parts_without_weight_are_left_out():
    built = method(ce_weight=0, dice_weight=1)
    batch = {"labels": torch.ones(1, 1, 4, 4), "mask": torch.ones(1, 4, 4)}
    total, parts = built.loss({"classes": torch.zeros(1, 1, 4, 4)}, batch)
    assert set(parts) == {"dice", "iou_error"}
    assert total == parts["dice"]


def test_label_yields_one_result_per_set():
    stored = {"classes": np.float16([[[0.2, 0.6]]])}
    sets = [LabelSettings(), LabelSettings(threshold=0.7)]
    assert [found.tolist() for found in method().label(stored, sets)] == [[[0, 1]], [[0, 0]]]


def test_large_predictions_are_labelled_in_blocks(monkeypatch):
    assert method().block_shape((100, 100)) is None
    monkeypatch.setattr(module, "MOST_VALUES", 3000)
    assert method().block_shape((100, 100)) == (50, 50)
    assert np.prod(method(num_classes=5).block_shape((100, 100))) <= 600


def test_quality_of_predictions():
    stored = np.float16([[[0.9, 0.9, 0.2, 0.2]]])
    truth = np.array([[1, 0, 0, -1]])
    scores = quality(stored, truth, 2)
    assert set(scores) == set(method().quality_names)
    assert scores["classes.foreground_iou"] == 0.5
    assert scores["classes.accuracy"] == pytest.approx(2 / 3)
    # confidence 0.9 twice with one right, 0.8 once and right
    expected = 1 - (abs(1.8 - 1) + abs(0.8 - 1)) / 3
    assert scores["calibration.agreement"] == pytest.approx(expected, abs=1e-3)


def test_confidence_is_that_of_the_chosen_class():
    assert confidence(np.uint8([[[51, 204]]])).tolist() == [[pytest.approx(0.8)] * 2]
    assert confidence(np.float16([[[0.5]], [[0.25]], [[0.25]]])).tolist() == [[0.5]]
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
