"""The method's face to the stages."""

import pickle

import numpy as np
import pytest
import torch

from instaseg.data.config import DataSettings
from instaseg.data.crops import BEYOND, CropImage
from instaseg.errors import ConfigError
from instaseg.geometry import Box, whole
from instaseg.methods.build import MethodSpec
from instaseg.methods.channels import channels_from_labels
from instaseg.methods.channels.config import CHANNEL_NAMES, ChannelsSettings, LabelSettings
from instaseg.models.config import ModelSettings

MODEL = ModelSettings(
    num_fmaps=4,
    fmap_inc_factors=2,
    downsample_factors=((2, 2),),
    padding="same",
    train_input_shape=(16, 16),
    test_input_shape=(16, 16),
)


def method(channels=("foreground", "contour"), **tables):
    settings = ChannelsSettings.model_validate({"channels": channels, **tables})
    return MethodSpec(settings, MODEL, DataSettings()).build()


def batch(one, labels):
    """Return a batch of one crop, its labels with context."""
    inner = tuple(slice(c, n - c) for c, n in zip(one.context, labels.shape, strict=True))
    labels = labels.copy()  # torch takes no arrays that cannot be written to
    targets = one.targets(labels[None], (1, 1))
    found = {"labels": labels[None], "mask": np.ones(labels[inner].shape, bool), **targets}
    return {name: torch.from_numpy(np.ascontiguousarray(v))[None] for name, v in found.items()}


def test_heads_are_channels_in_the_order_asked_for():
    one = method(("contour", "foreground", "flow"))
    assert [head.name for head in one.heads] == ["contour", "foreground", "flow"]
    assert [head.channels for head in one.heads] == [1, 1, 2]
    assert one.heads[0].key == "volumes/pred_contour"
    assert one.labelled_heads == one.heads
    assert (one.result, one.overlapping, one.coding) == ("instances", False, None)


def test_network_has_the_heads():
    one = method(("foreground", "flow"))
    outputs = one.build_network()(torch.zeros(1, 1, 16, 16))
    assert {name: tuple(v.shape) for name, v in outputs.items()} == {
        "foreground": (1, 1, 16, 16),
        "flow": (1, 2, 16, 16),
    }


def test_targets_have_no_context_and_small_types(many_labels):
    one = method(("contour", "flow"), border_weight={"strength": 5.0}, context=[20])
    assert one.context == (20, 20)
    found = one.targets(many_labels[None, :60, :62], (1, 1))
    assert {name: (v.shape, v.dtype.name) for name, v in found.items()} == {
        "contour": ((1, 20, 22), "uint8"),
        "flow": ((2, 20, 22), "float32"),
        "border_weight": ((1, 20, 22), "float32"),
    }


@pytest.mark.parametrize("name", ["flow", "rays", "centre", "centre_distance"])
def test_what_lies_around_a_crop_is_left_out(name, many_labels):
    skeleton = {"kind": "skeleton"}
    tables = {"centre": skeleton, "centre_distance": skeleton} if "centre" in name else {}
    one = method((name,), context=[20], **tables)
    found = one.targets(many_labels[None, :60, :62], (1, 1))
    whole = channels_from_labels(many_labels[:60, :62], [name], settings=tables)
    np.testing.assert_array_equal(found[name], whole[:, 20:40, 20:42])


@pytest.mark.parametrize("name", [name for name in CHANNEL_NAMES if name != "offset_z"])
def test_perfect_outputs_cost_next_to_nothing(name, many_labels):
    one = method((name,), context=[20])
    crop = batch(one, many_labels[: 40 + 2 * one.context[0], : 40 + 2 * one.context[1]])
    target = crop[name].float()
    sure = one.channels[0].activation == "sigmoid"
    total, parts = one.loss({name: torch.logit(target, eps=1e-6) if sure else target}, crop)
    soft = name == "centre" and not one.channels[0].binary
    assert total.item() == parts[name].item()
    assert total.item() < (1.0 if soft else 1e-4)


def test_a_step_down_the_gradient_lowers_the_loss(many_labels):
    torch.manual_seed(0)
    one = method(("foreground", "distance"), weights=[1, 0.5], class_balance="batch")
    crop = batch(one, np.pad(many_labels, 32)[: 16 + 64, : 16 + 64])
    network = one.build_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    before, parts = one.loss(network(crop["foreground"].float()), crop)
    before.backward()
    optimizer.step()
    after, _ = one.loss(network(crop["foreground"].float()), crop)
    assert list(parts) == ["foreground", "distance"]
    assert before.item() == pytest.approx(
        parts["foreground"].item() + 0.5 * parts["distance"].item()
    )
    assert after < before


def test_unknown_background_costs_nothing(touching_labels):
    one = method(("foreground",))
    crop = batch(one, touching_labels)
    crop["mask"] = torch.zeros_like(crop["mask"])
    wrong = torch.full((1, 1, 7, 10), 20.0)  # foreground everywhere
    assert one.loss({"foreground": wrong}, crop)[0].item() < 1e-6
    counted = method(("foreground",), mask_bg_weight=1.0)
    assert counted.loss({"foreground": wrong}, crop)[0].item() > 5


def test_labels_of_perfect_channels(touching_labels):
    one = method(("foreground", "contour"))
    prediction = {
        name: channels_from_labels(touching_labels, [name]).astype(np.float16)
        for name in ("foreground", "contour")
    }
    (found,) = one.label(prediction, [LabelSettings()])
    assert found.shape == (7, 10)
    np.testing.assert_array_equal(found > 0, touching_labels > 0)
    assert found[3, 2] != found[3, 6]


def test_quality_has_the_names(touching_labels):
    one = method(("foreground", "distance"))
    assert one.quality_names == ("foreground.IoU", "distance.minus_mae")
    prediction = {
        name: channels_from_labels(touching_labels, [name]) for name in one.settings.channels
    }
    found = one.prediction_quality(prediction, touching_labels, None)
    assert found == {"foreground.IoU": 1.0, "distance.minus_mae": 0.0}


def test_large_predictions_are_labelled_in_blocks():
    one = method(("foreground", "rays"))
    assert one.block_shape((2000, 2000)) is None
    block = one.block_shape((40000, 30000))
    assert block is not None
    assert max(block) <= 2 * min(block)


def test_voxel_size_of_the_data_is_the_spacing():
    settings = ChannelsSettings()
    one = MethodSpec(settings, MODEL, DataSettings(voxel_size=(2.0, 0.5))).build()
    assert one.spacing == (2.0, 0.5)
    assert method().spacing == (1.0, 1.0)


def test_targets_can_be_sent_to_a_worker():
    assert pickle.loads(pickle.dumps(method().targets)) is not None


def test_a_ridge_by_the_whole_image_cannot_be_learnt():
    with pytest.raises(ConfigError, match='set scale = "instance"'):
        method(["Dv2"], letters="biapy_before_3.0")
    method(["Dv2"], letters="biapy_before_3.0", ridge={"scale": "instance"})


@pytest.mark.parametrize("name", [name for name in CHANNEL_NAMES if not name.endswith("_z")])
@pytest.mark.parametrize("begin", [(0, 0), (50, 0), (-6, 3)])
def test_the_target_of_a_crop_at_the_border_is_the_crop_of_the_target(name, begin, many_labels):
    """Nothing is known beyond the image; not even that an instance goes on as in a mirror."""
    tables = {"neighbour_distance": {"scale": "physical", "cap": 12.0}}
    one = method((name,), context=[28], **tables)
    image = CropImage(
        raw=np.zeros((1, *many_labels.shape), np.float32),
        labels=many_labels[None],
        mask=None,
        statistics=None,
        resolution=(1, 1),
        beyond="unknown",
    )
    core = Box(begin, tuple(b + 16 for b in begin))
    labels = image.crop_labels(core.grow(one.context))
    whole_image = channels_from_labels(many_labels, [name], settings=tables)
    inside = core.intersect(whole(many_labels.shape))
    place = (slice(None), *inside.shift([-b for b in core.begin]).slices)
    found = one.targets(labels, (1, 1))[name]
    assert found.shape[1:] == core.shape
    np.testing.assert_allclose(found[place], whole_image[(slice(None), *inside.slices)], atol=1e-5)
    found[place] = 0
    assert not found.any()


def test_what_lies_beyond_the_image_is_not_learnt_from(many_labels):
    one = method(("foreground",))
    labels = many_labels[:16, :16].copy()
    labels[:, 8:] = BEYOND
    there = batch(one, labels)
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    one.loss({"foreground": logits}, there)[0].backward()
    assert logits.grad[..., :8].abs().min() > 0
    assert not logits.grad[..., 8:].any()
