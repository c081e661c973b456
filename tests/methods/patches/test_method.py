"""PatchPerPix as a method: patches turn with the image, masks count, the margin is cut off."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.data.config import DataSettings
from instaseg.errors import ConfigError
from instaseg.geometry import Symmetry, flips, plane_rotations_and_flips
from instaseg.methods.patches import patch_targets
from instaseg.methods.patches.config import LabelSettings, PatchesSettings
from instaseg.methods.patches.loss import count_loss, foreground_loss, patch_loss
from instaseg.methods.patches.method import PatchesMethod, PatchHead
from instaseg.models.config import ModelSettings

CODE = {"code_units": 12, "decoder_fmaps": (4,)}  # two maps of 3x2 for 5x3, three of 2x2 for 3x3
QUARTER_TURN = Symmetry((1, 0), (True, False))


def head(patch_shape):
    return PatchHead(
        name="affs",
        channels=int(np.prod(patch_shape)),
        activation="sigmoid",
        key="volumes/pred_affs",
        patch_shape=patch_shape,
    )


def method(patch_shape=(3, 3), **changes):
    ndim = len(patch_shape)
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((2,) * ndim,),
        padding="same",
        train_input_shape=(8,) * ndim,
        test_input_shape=(8,) * ndim,
    )
    return PatchesMethod(
        PatchesSettings(patch_shape=patch_shape, **changes),
        model=model,
        data=DataSettings(ndim=ndim),
    )


def labels_of(shape, seed):
    """Return random labels of few instances, so that patches hold several voxels."""
    return np.random.default_rng(seed).integers(0, 3, shape)


SIDES = st.integers(3, 7)


# Turning.


def test_a_quarter_turn_by_hand():
    """A pixel that points to its right points up after a quarter turn to the left::

    . . .                  . 1 .
    . . 1   becomes patch  . . .      [y, x] -> [x, y], then y reversed
    . . .                  . . .
    """
    prediction = np.zeros((9, 1, 1), dtype=np.uint8)
    prediction[5] = 1
    turned = head((3, 3)).turn(prediction, QUARTER_TURN)
    assert turned[:, 0, 0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]


@given(st.sampled_from(plane_rotations_and_flips(2)), SIDES, SIDES, st.integers(0, 2**16))
@settings(max_examples=60)
def test_prediction_of_the_turned_image_is_the_turned_prediction(symmetry, height, width, seed):
    labels = labels_of((height, width), seed)
    expected = patch_targets(symmetry.apply(labels), (3, 3))
    found = head((3, 3)).turn(patch_targets(labels, (3, 3)), symmetry)
    np.testing.assert_array_equal(found, expected)


@given(
    st.sampled_from([*flips(3), *plane_rotations_and_flips(3)]),
    st.tuples(SIDES, SIDES, SIDES),
    st.integers(0, 2**16),
)
@settings(max_examples=40)
def test_the_same_in_three_dimensions(symmetry, shape, seed):
    """A flat patch in z: flips of all axes, quarter turns of the plane."""
    labels = labels_of(shape, seed)
    expected = patch_targets(symmetry.apply(labels), (1, 3, 3), ndim=3)
    found = head((1, 3, 3)).turn(patch_targets(labels, (1, 3, 3), ndim=3), symmetry)
    np.testing.assert_array_equal(found, expected)
    expected = patch_targets(symmetry.apply(labels), (5, 3, 3))
    found = head((5, 3, 3)).turn(patch_targets(labels, (5, 3, 3)), symmetry)
    np.testing.assert_array_equal(found, expected)


@given(st.sampled_from(plane_rotations_and_flips(2)), st.integers(0, 2**16))
@settings(max_examples=20)
def test_turning_back_gives_the_prediction(symmetry, seed):
    prediction = np.random.default_rng(seed).random((25, 4, 6), dtype=np.float32)
    there = head((5, 5)).turn(prediction, symmetry)
    np.testing.assert_array_equal(head((5, 5)).turn(there, symmetry.inverse()), prediction)


@pytest.mark.parametrize("symmetry", flips(2))
def test_a_patch_that_is_not_square_can_be_flipped(symmetry):
    labels = labels_of((6, 7), 0)
    expected = patch_targets(symmetry.apply(labels), (3, 5))
    found = head((3, 5)).turn(patch_targets(labels, (3, 5)), symmetry)
    np.testing.assert_array_equal(found, expected)


def test_a_patch_that_is_not_square_cannot_be_rotated():
    with pytest.raises(ConfigError) as error:
        head((3, 5)).turn(np.zeros((15, 6, 7)), QUARTER_TURN)
    assert str(error.value) == (
        "[prediction] symmetries: expected a patch with equal sides to turn, found"
        " method.patch_shape = [3, 5]; use symmetries = 'flips'"
    )


# Heads, shapes.


def test_heads_context_and_margin():
    found = method((5, 3))
    assert [(h.name, h.channels, h.key) for h in found.heads] == [
        ("affs", 15, "volumes/pred_affs"),
        ("fgbg", 1, "volumes/pred_fgbg"),
    ]
    assert found.context == found.margin == (2, 1)
    assert found.targets(np.zeros((4, 4)), (1, 1)) == {}
    assert method((5, 3), border="cut").margin == (0, 0)
    assert [h.name for h in method(foreground="centre").heads] == ["affs"]


def test_network_has_the_heads():
    with torch.no_grad():
        outputs = method((3, 5)).build_network()(torch.zeros(1, 1, 8, 8))
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {
        "affs": (1, 15, 8, 8),
        "fgbg": (1, 1, 8, 8),
    }


# Codes, counts.


def test_heads_of_codes_and_counts():
    found = method((5, 3), prediction="codes", foreground="count", max_num_inst=3, code=CODE)
    assert [(h.name, h.channels, h.activation, h.key) for h in found.heads] == [
        ("code", 12, "sigmoid", "volumes/pred_code"),
        ("numinst", 4, "softmax", "volumes/pred_numinst"),
    ]
    assert found.overlapping
    assert (found.coding.decoded.name, found.coding.decoded.channels) == ("affs", 15)
    assert found.coding.decoded.patch_shape == (5, 3)
    plain = method((5, 3))
    assert (plain.coding, plain.overlapping) == (None, False)


def test_network_of_codes_decodes_at_sites():
    found = method((5, 3), prediction="codes", code=CODE)
    network = found.build_network()
    outputs = network(torch.zeros(1, 1, 8, 8), torch.tensor([0, 60]))
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {
        "patches": (2, 15),
        "fgbg": (1, 1, 8, 8),
    }
    assert network(torch.zeros(1, 1, 8, 8))["code"].shape == (1, 12, 8, 8)
    assert any(name.startswith("decoder.") for name in network.state_dict())


# Loss.


def batch_of(found, seed=0):
    """Return outputs and batch of two crops of 4x5 pixels in two layers, part of them unknown."""
    rng = np.random.default_rng(seed)
    outputs = {
        head.name: torch.from_numpy(rng.normal(size=(2, head.channels, 4, 5)).astype(np.float32))
        for head in found.heads
    }
    labels = rng.integers(0, 3, (2, 2, 6, 7)) * np.array([[[[1]], [[10]]]])
    labels[:, 1][rng.random((2, 6, 7)) < 0.7] = 0
    mask = torch.from_numpy(rng.random((2, 4, 5)) < 0.6)
    batch = {"labels": torch.from_numpy(labels.astype(np.int32)), "mask": mask}
    return outputs, {**batch, "sites": found.sites(batch, seed)}


def numbers_of(batch):
    """Return the number of instances at each pixel."""
    return (batch["labels"][:, :, 1:-1, 1:-1] > 0).sum(dim=1)


def test_sites_have_one_instance_whether_labels_are_complete_or_not():
    _, batch = batch_of(method())
    assert torch.equal(batch["sites"], (numbers_of(batch) == 1).flatten().nonzero()[:, 0])


def test_codes_are_decoded_at_few_sites_of_each_crop():
    found = method(prediction="codes", code={**CODE, "patches_per_crop": 3})
    _, batch = batch_of(found)
    assert (batch["sites"] // 20).tolist() == [0, 0, 0, 1, 1, 1]
    again, other = (found.sites(batch, seed) for seed in (0, 1))
    assert torch.equal(again, batch["sites"])
    assert not torch.equal(other, batch["sites"])


def test_loss_is_the_weighted_sum_of_its_parts():
    found = method(patch_weight=2.0, fg_weight=0.5, mask_bg_weight=0.25)
    outputs, batch = batch_of(found)
    total, parts = found.loss(outputs, batch)
    rows = outputs["affs"].movedim(1, -1).reshape(-1, 9)[batch["sites"]]
    patch = patch_loss(rows, batch["labels"], patch_shape=(3, 3), sites=batch["sites"])
    inside = numbers_of(batch) > 0
    weight = torch.where(inside | batch["mask"], 1.0, 0.25)
    assert set(parts) == {"patch", "foreground"}
    assert float(parts["patch"]) == pytest.approx(float(patch))
    assert float(parts["foreground"]) == pytest.approx(
        float(foreground_loss(outputs["fgbg"], inside, weight))
    )
    assert float(total) == pytest.approx(2 * float(parts["patch"]) + 0.5 * parts["foreground"])


def test_loss_of_counts():
    found = method(foreground="count", fg_weight=0.5)
    outputs, batch = batch_of(found)
    total, parts = found.loss(outputs, batch)
    known = batch["mask"] | (numbers_of(batch) > 0)
    expected = count_loss(outputs["numinst"], numbers_of(batch), known.float())
    assert set(parts) == {"patch", "count"}
    assert float(parts["count"]) == pytest.approx(float(expected))
    assert float(total) == pytest.approx(float(parts["patch"]) + 0.5 * float(expected))


def test_patches_evaluated_at_sites_have_the_same_loss():
    found = method()
    outputs, batch = batch_of(found)
    rows = outputs["affs"].movedim(1, -1).reshape(-1, 9)[batch["sites"]]
    sampled = {"patches": rows, "fgbg": outputs["fgbg"]}
    assert float(found.loss(sampled, batch)[0]) == float(found.loss(outputs, batch)[0])


def test_without_a_foreground_head_patches_of_the_background_count_too():
    found = method(foreground="centre", mask_bg_weight=0.25)
    outputs, batch = batch_of(found)
    assert len(batch["sites"]) == 40
    total, parts = found.loss(outputs, batch)
    weight = torch.where((numbers_of(batch) > 0) | batch["mask"], 1.0, 0.25)
    rows = outputs["affs"].movedim(1, -1).reshape(-1, 9)
    expected = patch_loss(
        rows, batch["labels"], patch_shape=(3, 3), sites=batch["sites"], weight=weight
    )
    assert float(total) == float(parts["patch"]) == pytest.approx(float(expected))


@pytest.mark.parametrize("foreground", ["head", "centre", "count"])
def test_unknown_background_has_no_influence(foreground):
    found = method(foreground=foreground)
    outputs, batch = batch_of(found)
    before, _ = found.loss(outputs, batch)
    unknown = (~batch["mask"] & (numbers_of(batch) == 0))[:, None]
    noise = torch.arange(3.0).reshape(1, 3, 1, 1) if foreground == "count" else 1.0
    spoilt = {
        name: values + 100 * unknown * (noise if name == "numinst" else 1)
        for name, values in outputs.items()
    }
    after, _ = found.loss(spoilt, batch)
    assert float(after) == pytest.approx(float(before))
    known = {
        name: values + ~unknown * (noise if name == "numinst" else 1)
        for name, values in outputs.items()
    }
    assert float(found.loss(known, batch)[0]) != pytest.approx(float(before))


def test_gradient_reaches_the_code_and_the_decoder():
    found = method(prediction="codes", foreground="count", code=CODE)
    network = found.build_network()
    _, batch = batch_of(found)
    image = torch.rand(2, 1, 4, 5)
    image = torch.nn.functional.pad(image, (0, 1, 0, 0))[..., :4]
    batch = {"labels": batch["labels"][..., :6], "mask": batch["mask"][..., :4]}
    batch["sites"] = found.sites(batch, 0)
    total, parts = found.loss(network(image, batch["sites"]), batch)
    total.backward()
    assert set(parts) == {"patch", "count"}
    for part in (network.heads["code"], network.decoder.write, network.trunk.down[0][0]):
        assert part.weight.grad.abs().sum() > 0


def test_a_network_that_does_not_decode_is_refused():
    found = method(prediction="codes", code=CODE)
    outputs, batch = batch_of(found)
    with pytest.raises(ConfigError, match=r"decodes the codes at `sites` .* found code, fgbg"):
        found.loss(outputs, batch)


def test_true_patches_for_the_autoencoder():
    found = method(prediction="codes", code={**CODE, "patches_per_crop": 4})
    _, batch = batch_of(found)
    patches = found.coding.patches(batch, 0)["raw"]
    assert patches.shape == (8, 1, 3, 3)
    assert patches[:, 0, 1, 1].tolist() == [1.0] * 8
    network = found.coding.autoencoder()
    loss, parts = found.coding.autoencoder_loss(network(patches), {"raw": patches})
    assert float(loss.detach()) == float(parts["patch"].detach()) > 0
    nothing = {"raw": patches[:0]}
    assert float(found.coding.autoencoder_loss(network(patches[:0]), nothing)[0].detach()) == 0


# Labels.


def perfect(labels, patch_shape, margin):
    """Return perfect predictions of an image that is mirrored by `margin`."""
    grown = np.pad(labels, [(m, m) for m in margin], mode="reflect")
    return {
        "affs": patch_targets(grown, patch_shape).astype(np.float16),
        "fgbg": (grown > 0)[None].astype(np.float16),
    }


def test_margin_is_cut_off_and_instances_are_the_truth(touching_squares):
    found = method((5, 5))
    (instances,) = found.label(perfect(touching_squares, (5, 5), (2, 2)), [LabelSettings()])
    assert instances.shape == touching_squares.shape
    pairs = set(zip(instances.ravel().tolist(), touching_squares.ravel().tolist(), strict=True))
    assert len(pairs) == 4
    assert (0, 0) in pairs


def test_instances_at_the_border_are_whole_where_it_is_mirrored():
    labels = np.zeros((9, 9), dtype=np.int32)
    labels[:4, :4] = 1
    (whole,) = method((5, 5)).label(perfect(labels, (5, 5), (2, 2)), [LabelSettings()])
    np.testing.assert_array_equal(whole > 0, labels > 0)
    cut = method((5, 5), border="cut")
    (part,) = cut.label(perfect(labels, (5, 5), (0, 0)), [LabelSettings()])
    assert part.shape == labels.shape
    assert not part[~(labels > 0)].any()


def test_one_result_for_each_set_of_parameters(touching_squares):
    prediction = perfect(touching_squares, (5, 5), (2, 2))
    sets = [LabelSettings(), LabelSettings(fg_threshold=1.0), LabelSettings()]
    first, nothing, again = method((5, 5)).label(prediction, sets)
    assert not nothing.any()
    np.testing.assert_array_equal(first, again)


def test_bytes_are_probabilities_too(touching_squares):
    prediction = perfect(touching_squares, (5, 5), (2, 2))
    stored = {name: np.uint8(255) * values.astype(np.uint8) for name, values in prediction.items()}
    (expected,) = method((5, 5)).label(prediction, [LabelSettings()])
    (found,) = method((5, 5)).label(stored, [LabelSettings()])
    np.testing.assert_array_equal(found, expected)


def test_without_a_foreground_head_the_centre_is_the_foreground(touching_squares):
    prediction = perfect(touching_squares, (5, 5), (2, 2))
    (expected,) = method((5, 5)).label(prediction, [LabelSettings()])
    del prediction["fgbg"]
    (found,) = method((5, 5), foreground="centre").label(prediction, [LabelSettings()])
    np.testing.assert_array_equal(found, expected)


def test_channels_of_instances_keep_their_axis(touching_squares):
    settings_ = LabelSettings(output="one_per_channel")
    prediction = perfect(touching_squares, (5, 5), (2, 2))
    (found,) = method((5, 5)).label(prediction, [settings_])
    assert found.shape == (3, *touching_squares.shape)


@pytest.mark.parametrize(
    ("patch", "shape", "whole"),
    [
        ((7, 7, 7), (1000, 1000, 1000), (120, 120, 120)),
        ((25, 25), (9000, 9000), (1024, 1024)),
    ],
)
def test_blocks_fit_in_memory_even_if_all_is_foreground(patch, shape, whole):
    large = method(patch)
    assert large.block_shape(whole) is None
    block = large.block_shape(shape)
    read = np.prod([b + 6 * (side // 2) for b, side in zip(block, patch, strict=True)])
    # two bytes for each voxel of a patch, and for each pair of half the window around a voxel
    window = np.prod([2 * side - 1 for side in patch])
    assert 2**28 < 2 * read * (np.prod(patch) + window // 2) < 2**32
