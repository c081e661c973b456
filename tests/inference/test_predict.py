"""Whole images: the result is that of one tile, whatever the tiles; turned patches turn back."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import DataError
from instaseg.inference.config import PredictionSettings
from instaseg.inference.predict import (
    Predictor,
    count_batches,
    predict_sample,
    predict_tiles,
    prediction_shape,
)
from instaseg.methods.base import Head
from instaseg.models import shapes
from instaseg.models.config import ModelSettings
from instaseg.models.network import build_network

CPU = torch.device("cpu")
FLOAT32 = PredictionSettings(precision="float32")


@dataclass(frozen=True)
class PatchHead(Head):
    """Channels are the voxels of a patch of 3x3 in raster order, which turns with the image."""

    def turn(self, prediction, symmetry):
        patches = prediction.reshape(3, 3, *prediction.shape[1:]).transpose(2, 3, 0, 1)
        patches = symmetry.apply(patches).transpose(2, 3, 0, 1)
        return symmetry.apply(patches).reshape(prediction.shape)


AFFS = PatchHead("affs", 9, "sigmoid", "volumes/pred_affs")
FG = Head("fgbg", 1, "sigmoid", "volumes/pred_fgbg")


def _normalize(block):
    return block.astype(np.float32) / 100


def _predictor(model, heads, prediction=FLOAT32):
    torch.manual_seed(0)
    network = build_network(model, in_channels=1, ndim=model.ndim, heads=heads)
    # Default weights hardly depend on the image; larger ones make mistakes visible.
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2.0)
    return Predictor(network, heads, model, prediction, CPU)


def _predict(predictor, raw, margin):
    writers = {
        head.name: np.full(prediction_shape(head, raw.shape[1:], margin), np.nan, np.float32)
        for head in predictor.heads
    }
    predict_sample(predictor, raw, normalize=_normalize, writers=writers, margin=margin)
    return writers


def _raw(shape):
    return np.random.default_rng(1).integers(0, 200, (1, *shape)).astype(np.uint8)


@st.composite
def cases(draw):
    """Networks in 2-D and 3-D, an image, and two largest tiles."""
    ndim = draw(st.sampled_from([2, 2, 3]))
    factors = draw(st.sampled_from([((2, 2),), ((2, 3),), ((2, 2), (1, 2)), ((3, 1),)]))
    if ndim == 3:
        factors = (draw(st.sampled_from([(1, 2, 2), (2, 2, 2)])),)
    model = ModelSettings().model_copy(
        update={
            "num_fmaps": 2,
            "num_repetitions": 1,
            "downsample_factors": factors,
            "padding": draw(st.sampled_from(["valid", "same"])),
            "upsampling": draw(st.sampled_from(["resize_conv", "trans_conv"])),
            "interpolation": draw(st.sampled_from(["nearest", "linear"])),
            "train_input_shape": (9,) * ndim,
        }
    )
    halo, step = shapes.halo(model), shapes.step(model)

    def with_tile(*steps):
        least = tuple(2 * h + n * s for h, n, s in zip(halo, steps, step, strict=False))
        fitting = shapes.input_shape_at_least(model, least)
        return model.model_copy(update={"test_input_shape": fitting})

    sides = st.integers(1, 4)
    small = with_tile(*(draw(sides) for _ in range(ndim)))
    shape = tuple(draw(st.integers(1, 26 if ndim == 2 else 12)) for _ in range(ndim))
    margin = tuple(draw(st.integers(0, 3)) for _ in range(ndim))
    return small, with_tile(*(32 if ndim == 2 else 18,) * ndim), shape, margin


@settings(max_examples=25)
@given(
    case=cases(),
    symmetries=st.sampled_from(["none", "flips", "flips_and_rotations"]),
    batch_size=st.integers(1, 3),
)
def test_result_does_not_depend_on_the_tiles(case, symmetries, batch_size):
    small, large, shape, margin = case
    prediction = FLOAT32.model_copy(update={"symmetries": symmetries, "batch_size": batch_size})
    raw = _raw(shape)
    with pytest.MonkeyPatch.context() as patch:
        # Stored as they are, not in 16 bits, which would hide all but large differences.
        patch.setattr("instaseg.inference.predict.stored_dtype", lambda *_: np.dtype("float32"))
        in_tiles = _predict(_predictor(small, [FG], prediction), raw, margin)["fgbg"]
        at_once = _predict(_predictor(large, [FG], prediction), raw, margin)["fgbg"]
    assert not np.isnan(in_tiles).any()
    np.testing.assert_allclose(in_tiles, at_once, atol=1e-5)


# No level, one 3x3 pass: halo 1. The network below has the same halo.
FLAT = ModelSettings(
    num_fmaps=1,
    downsample_factors=(),
    num_repetitions=1,
    train_input_shape=(7, 8),
    test_input_shape=(7, 8),
)


class Neighbours(torch.nn.Module):
    """Predicts, as logits, the raw values of the 3x3 patch around each pixel."""

    def forward(self, image):
        windows = image[:, 0].unfold(1, 3, 1).unfold(2, 3, 1)
        return {"affs": windows.flatten(3).movedim(3, 1), "fgbg": image[:, :, 1:-1, 1:-1]}


@pytest.mark.parametrize("symmetries", ["none", "flips", "flips_and_rotations"])
def test_patches_turn_with_the_image(symmetries):
    """This network's prediction of the turned image is the turned one, so the mean is each."""
    prediction = FLOAT32.model_copy(update={"symmetries": symmetries})
    predictor = Predictor(Neighbours(), [AFFS, FG], FLAT, prediction, CPU)
    raw = _raw((9, 14))
    found = _predict(predictor, raw, (2, 3))
    mirrored = np.pad(raw[0], ((3, 3), (4, 4)), mode="reflect") / 100
    probability = 1 / (1 + np.exp(-mirrored))
    for channel in range(9):
        y, x = divmod(channel, 3)
        expected = probability[y : y + 13, x : x + 20]
        np.testing.assert_allclose(found["affs"][channel], expected, atol=1e-3)
    np.testing.assert_allclose(found["fgbg"][0], probability[1:-1, 1:-1], atol=1e-3)


def test_head_that_does_not_turn_its_patches_is_wrong():
    """The test above can fail: with a plain head the mean mixes the patch's voxels."""
    plain = Head("affs", 9, "sigmoid", "volumes/pred_affs")
    prediction = FLOAT32.model_copy(update={"symmetries": "flips"})
    raw = _raw((9, 14))
    right, wrong = (
        _predict(Predictor(Neighbours(), [head, FG], FLAT, prediction, CPU), raw, (0, 0))["affs"]
        for head in (AFFS, plain)
    )
    assert np.abs(right - wrong).max() > 0.1


def test_turned_image_gives_turned_prediction():
    """Averaged over all eight turns, any network's prediction turns with the image.

    The size is one for which the pooling grid lies alike seen from both ends.
    """
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((2, 2), (2, 2)),
        train_input_shape=(48, 48),
        test_input_shape=(60, 60),
    )
    size = shapes.input_shape_for_output(model, (10, 10))[0] - 2 * shapes.halo(model)[0]
    prediction = FLOAT32.model_copy(update={"symmetries": "flips_and_rotations"})
    predictor = _predictor(model, [AFFS, FG], prediction)
    raw = _raw((size, size))
    straight = _predict(predictor, raw, (0, 0))
    assert straight["affs"].std() > 0.01
    for symmetry in predictor.turns:
        turned = _predict(predictor, symmetry.apply(raw), (0, 0))
        for head in predictor.heads:
            expected = head.turn(straight[head.name], symmetry)
            np.testing.assert_allclose(turned[head.name], expected, atol=1e-3)


def test_bytes_on_disk():
    predictor = Predictor(
        Neighbours(), [AFFS, FG], FLAT, FLOAT32.model_copy(update={"output_dtype": "uint8"}), CPU
    )
    written = {}

    class Writer:
        def __setitem__(self, index, values):
            written.setdefault(values.dtype, []).append(values.shape)

    predict_sample(
        predictor,
        _raw((9, 14)),
        normalize=_normalize,
        writers={"affs": Writer(), "fgbg": Writer()},
        margin=(0, 0),
    )
    assert set(written) == {np.dtype("uint8")}
    assert predictor.dtype(FG) == np.uint8


def test_neither_image_nor_prediction_is_held_whole():
    """Room for 5x6 in inputs of 7x8: parts of 40x40 are read and written one by one."""

    class Source:
        shape = (1, 40, 40)
        largest = 0

        def __getitem__(self, index):
            part = np.zeros(tuple(s.stop - s.start for s in index), np.float32)
            self.largest = max(self.largest, part.size)
            return part

    class Writer:
        largest = 0
        total = 0

        def __setitem__(self, index, values):
            self.largest = max(self.largest, values[0].size)
            self.total += values[0].size

    predictor = Predictor(Neighbours(), [FG], FLAT, FLOAT32, CPU)
    source, writer = Source(), Writer()
    predict_sample(predictor, source, normalize=_normalize, writers={"fgbg": writer}, margin=(0, 0))
    assert predictor.tile_shape((40, 40), (0, 0)) == (5, 6)
    assert (source.largest, writer.largest, writer.total) == (7 * 8, 5 * 6, 40 * 40)


def test_network_of_other_dimensions():
    predictor = Predictor(Neighbours(), [FG], FLAT, FLOAT32, CPU)
    with pytest.raises(
        DataError, match=r"expected \(channels, 2 spatial axes\).* found shape \[1, 3"
    ):
        predict_sample(
            predictor,
            np.zeros((1, 3, 9, 9)),
            normalize=_normalize,
            writers={"fgbg": np.zeros((1, 9, 9))},
            margin=(0, 0),
        )


def test_batches_of_tiles_in_any_order_are_the_whole():
    model = ModelSettings().model_copy(
        update={
            "num_fmaps": 2,
            "num_repetitions": 1,
            "downsample_factors": ((2, 2),),
            "train_input_shape": (16, 16),
            "test_input_shape": (24, 24),
        }
    )
    predictor, raw = _predictor(model, [FG]), _raw((50, 40))
    wanted = _predict(predictor, raw, (2, 2))["fgbg"]
    written = {"fgbg": np.full(wanted.shape, np.nan, np.float32)}
    count = count_batches(predictor, (50, 40), (2, 2))
    assert count > 2
    for batch in reversed(range(count)):
        before = np.isnan(written["fgbg"])
        predict_tiles(predictor, raw, batch, normalize=_normalize, writers=written, margin=(2, 2))
        assert np.isnan(written["fgbg"]).sum() < before.sum()
        assert not np.isnan(written["fgbg"])[~before].any()
    np.testing.assert_array_equal(written["fgbg"], wanted)


@dataclass(frozen=True)
class VectorHead(Head):
    """Two channels, y and x of a vector, that turn with the image."""

    @property
    def is_vector(self):
        return True

    def turn(self, prediction, symmetry):
        signs = np.where(symmetry.flips, -1, 1).reshape(-1, 1, 1)
        return symmetry.apply(prediction)[list(symmetry.permutation)] * signs


class _Columns(torch.nn.Module):
    """Predicts the image's columns: what a voxel's mirror image is predicted as is another's."""

    def forward(self, image):
        columns = torch.arange(image.shape[-1], dtype=torch.float32)
        scalar = columns.expand(image.shape[0], 1, *image.shape[2:])
        return {"fgbg": scalar, "flow": scalar.expand(-1, 2, -1, -1)}


@pytest.mark.parametrize(("mode", "expected"), [("mean", 3.5), ("min", 0), ("max", 7)])
def test_turned_predictions_are_combined_as_asked_for(mode, expected):
    """Of 8 columns the first is number 0 as it is and 7 in the mirror, under any turn."""
    model = ModelSettings(
        num_fmaps=1,
        downsample_factors=(),
        num_repetitions=1,
        kernel_size=(1, 1),
        train_input_shape=(8, 8),
        test_input_shape=(8, 8),
    )
    heads = (Head("fgbg", 1, "none", "volumes/pred_fgbg"), VectorHead("flow", 2, "none", "f"))
    settings = PredictionSettings(
        precision="float32", symmetries="flips", symmetries_mode=mode, output_dtype="float16"
    )
    predictor = Predictor(_Columns(), heads, model, settings, CPU)
    found = _predict(predictor, np.zeros((1, 8, 8)), (0, 0))
    np.testing.assert_allclose(found["fgbg"][0, :, 0], expected)
    # Vectors that point right in both copies point apart when turned back, whatever the mode.
    np.testing.assert_allclose(found["flow"][1, :, 0], (0 - 7) / 2)
