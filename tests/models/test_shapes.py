"""Shape arithmetic against the real network: sizes, what an output sees, and messages."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instaseg.errors import ConfigError
from instaseg.models import shapes
from instaseg.models.config import ModelSettings
from instaseg.models.unet import UNet


@st.composite
def models(draw):
    """Networks of 0 to 3 levels, any combination of options, with their smallest input shape."""
    ndim = draw(st.sampled_from([2, 3]))
    levels = draw(st.integers(0, 3 if ndim == 2 else 2))
    factor = st.integers(1, 3)
    factors = tuple(tuple(draw(factor) for _ in range(ndim)) for _ in range(levels))
    table = {
        "num_fmaps": 1,
        "fmap_inc_factors": draw(st.sampled_from([1.0, 1.5, (2.0,) * levels])),
        "downsample_factors": factors,
        "kernel_size": draw(st.sampled_from([1, 3, (3,) * (ndim - 1) + (5,)])),
        "num_repetitions": draw(st.integers(1, 2)),
        "upsampling": draw(st.sampled_from(["resize_conv", "trans_conv"])),
        "interpolation": draw(st.sampled_from(["nearest", "linear"])),
        "padding": draw(st.sampled_from(["valid", "same"])),
    }
    # Validation would refuse these shapes; the arithmetic needs their length alone.
    anything = {"train_input_shape": (9,) * ndim}
    loose = ModelSettings().model_copy(update={**table, **anything})
    smallest = shapes.smallest_input_shape(loose)
    # Written as [1, y, x], a volume one voxel thin would mean an image.
    side = shapes.step(loose)
    thick = (smallest[0] + side[0], *smallest[1:])
    return ModelSettings(**table, train_input_shape=thick, test_input_shape=thick)


@settings(max_examples=40)
@given(model=models(), more=st.tuples(*[st.integers(0, 2)] * 3))
def test_output_shape_is_that_of_the_network(model, more):
    base = model.train_input_shape
    shape = tuple(n + k * s for n, k, s in zip(base, more, shapes.step(model), strict=False))
    expected = shapes.output_shape(model, shape)
    with torch.no_grad():
        features = UNet(model, in_channels=1)(torch.zeros(1, 1, *shape))
    assert tuple(features.shape[2:]) == expected
    if model.padding == "valid":
        lost = tuple(2 * h for h in shapes.halo(model))
        assert expected == tuple(n - h for n, h in zip(shape, lost, strict=True))
    else:
        assert expected == shape


@settings(max_examples=25)
@given(model=models(), data=st.data())
def test_sizes_between_the_valid_ones_do_not_fit(model, data):
    axis = data.draw(st.integers(0, model.ndim - 1))
    side = shapes.step(model)[axis]
    shape = list(model.train_input_shape)
    shape[axis] += data.draw(st.integers(1, 2 * side))
    fits = (shape[axis] - model.train_input_shape[axis]) % side == 0
    assert (shapes.shape_problem(model, shape) is None) == fits
    below, above = shapes.nearest_input_shapes(model, shape)
    assert below[axis] <= shape[axis] <= above[axis]
    for near in (below, above):
        assert shapes.shape_problem(model, near) is None


@settings(max_examples=25)
@given(model=models())
def test_output_box_sees_no_more_than_its_halo(model):
    """The gradient of a small output box is zero outside the input box that belongs to it."""
    # Smooth, so that no gradient vanishes by chance.
    model = model.model_copy(update={"activation": "silu"})
    step, halo = shapes.step(model), shapes.halo(model)
    # The box begins this many whole steps into the input, and ends as far from its end.
    away = tuple(-(-h // s) * s for h, s in zip(halo, step, strict=True))
    small = shapes.input_shape_for_output(model, (1,) * model.ndim)
    inner = tuple(n - 2 * h for n, h in zip(small, halo, strict=True))
    shape = tuple(n + 2 * a for n, a in zip(small, away, strict=True))
    image = torch.randn(1, 1, *shape, requires_grad=True)
    features = UNet(model, in_channels=1)(image)
    cut = (0,) * model.ndim if model.padding == "valid" else halo
    box = tuple(slice(c + a, c + a + n) for c, a, n in zip(cut, away, inner, strict=True))
    features[(..., *box)].square().sum().backward()
    outside = image.grad[0, 0].clone()
    outside[tuple(slice(a, a + n) for a, n in zip(away, small, strict=True))] = 0
    assert not outside.any()


def test_halo_worked_out_by_hand():
    """Two passes of 3x3 need 2 voxels a side: 2; 2 + 2*2 + 2 = 8; 2 + 2*8 + 2 = 20; then 44."""
    assert shapes.halo(ModelSettings()) == (44, 44)
    assert shapes.step(ModelSettings()) == (8, 8)
    assert shapes.output_shape(ModelSettings(), (220, 220)) == (132, 132)


def test_anisotropic_levels():
    """z: one level keeps it, one halves it: 2, 2 + 2*2 + 2 = 8, 2 + 8 + 2 = 12."""
    model = ModelSettings(
        downsample_factors=((1, 2, 2), (2, 2, 2)),
        train_input_shape=(28, 44, 44),
        test_input_shape=(28, 44, 44),
    )
    assert shapes.halo(model) == (12, 20, 20)
    assert shapes.step(model) == (2, 4, 4)
    assert shapes.output_shape(model, (28, 44, 44)) == (4, 4, 4)


def test_wrong_shape_names_the_nearest():
    with pytest.raises(ConfigError) as error:
        shapes.output_shape(ModelSettings(), (200, 220))
    assert str(error.value) == (
        "input shape must fit the levels of the network (92 + 8 n, 92 + 8 n voxels); got"
        " [200, 220]. The nearest that fit: [196, 220] or [204, 220]"
    )


def test_too_small_a_shape_names_the_smallest():
    with pytest.raises(ConfigError, match=r"x got|The nearest that fit: \[92, 92\]$"):
        shapes.check_input_shape((10, 20), ModelSettings(), "model.test_input_shape")


def test_wrong_number_of_axes():
    with pytest.raises(ConfigError, match=r"^tile must have 2 axes; got \[1, 2, 3\]$"):
        shapes.check_input_shape((1, 2, 3), ModelSettings(), "tile")
