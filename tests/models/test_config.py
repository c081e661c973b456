"""Table [model]: what it refuses, and what follows from it."""

import pytest
from pydantic import ValidationError

from instaseg.models.config import ModelSettings


def _message(**table):
    with pytest.raises(ValidationError) as error:
        ModelSettings(**table)
    return str(error.value)


def test_shape_that_does_not_fit_is_refused_with_the_nearest():
    message = _message(train_input_shape=(200, 200), test_input_shape=(100, 101))
    assert "train_input_shape must fit the levels of the network" in message
    assert "[196, 196] or [204, 204]" in message
    assert "test_input_shape must fit" in message
    assert "[100, 100] or [100, 108]" in message


def test_axes_must_agree():
    message = _message(
        train_input_shape=(64, 64, 64), test_input_shape=(92, 92), kernel_size=(3, 3)
    )
    assert "test_input_shape must have 3 axes" in message
    assert "kernel_size must have one side for each of the 3 axes" in message
    assert "downsample_factors must have 3 factors at each level" in message


def test_levels_must_agree():
    message = _message(fmap_inc_factors=(2.0, 2.0), fmap_dec_factors=(2.0,))
    assert "fmap_inc_factors must be one number or 3" in message
    assert "fmap_dec_factors must be one number or 3" in message


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"kernel_size": 4}, "must be odd and positive; got 4"),
        ({"downsample_factors": ((2, 2), (2, 2, 2))}, "must have 2 or 3 factors at each level"),
        ({"downsample_factors": ((0, 2),)}, "must be factors of 1 or more; got [[0, 2]]"),
        ({"fmap_inc_factors": -1.0}, "must be positive; got -1.0"),
    ],
)
def test_values_that_make_no_sense(table, part):
    assert part in _message(**table)


def test_flat_z_axis_means_two_dimensions():
    model = ModelSettings(
        downsample_factors=((1, 2, 2), (1, 2, 2)),
        train_input_shape=(1, 44, 44),
        test_input_shape=(1, 44, 44),
    )
    assert model.ndim == 2
    assert model.factors == ((2, 2), (2, 2))


def test_feature_maps_per_level():
    model = ModelSettings(num_fmaps=20, fmap_inc_factors=(3.0, 3.0, 2.0), fmap_dec_factors=1.2)
    assert model.fmaps_down == (20, 60, 180, 360)
    assert model.fmaps_up == (208, 250, 300, 360)
    assert ModelSettings(num_fmaps=20).fmaps_up == (20, 40, 80, 160)
