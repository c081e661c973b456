"""Changes of values: what they promise, and that their input stays as it is."""

from functools import partial

import numpy as np
import pytest

from instaseg.data import augment_values as values
from instaseg.data.config import (
    BlurSettings,
    DropoutSettings,
    GammaSettings,
    HueSettings,
    NoiseSettings,
    PoissonSettings,
    SaltPepperSettings,
)

CHANGES = {
    "permute": values.permuted_channels,
    "grayscale": values.without_colour,
    "hue": partial(values.other_hue, settings=HueSettings(range=(40, 50))),
    "gamma": partial(values.gamma_curve, settings=GammaSettings(range=(2, 2))),
    "blur": partial(values.blurred, settings=BlurSettings(sigma=(1, 2))),
    "noise": partial(values.with_noise, settings=NoiseSettings(sigma=0.5)),
    "poisson": partial(values.with_shot_noise, settings=PoissonSettings()),
    "salt": partial(values.with_salt_and_pepper, settings=SaltPepperSettings(share=(0.2, 0.2))),
    "dropout": partial(values.with_dropout, settings=DropoutSettings(share=(0.2, 0.2))),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def some_image(shape=(3, 20, 20)):
    return rng(1).normal(0.4, 0.3, shape).astype(np.float32)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("shape", [(3, 20, 20), (3, 4, 8, 8)])
def test_every_change_gives_a_new_image_decided_by_the_seed(name, shape):
    image = some_image(shape)
    before = image.copy()
    first, again = (CHANGES[name](image, rng(5)) for _ in range(2))
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(first, again)
    assert (first.shape, first.dtype) == (image.shape, np.float32)
    assert not np.array_equal(first, image)


def test_gamma_keeps_both_ends_of_each_channel():
    image = np.array([[[0.0, 0.5, 1.0]], [[-2.0, 0.0, 2.0]], [[3.0, 3.0, 3.0]]], np.float32)
    found = values.gamma_curve(image, rng(), GammaSettings(range=(2, 2)))
    expected = [[[0, 0.25, 1]], [[-2, -1, 2]], [[3, 3, 3]]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_grayscale_is_the_mean():
    image = np.array([[[1.0]], [[2.0]], [[6.0]]], np.float32)
    assert values.without_colour(image, rng()).ravel().tolist() == [3, 3, 3]


def test_shot_noise_has_the_variance_of_its_photons():
    """Of 100 photons per unit, a value of 0.25 above the darkest is 25 +- 5 photons."""
    image = np.full((1, 200, 200), 0.75, np.float32)
    image[0, 0, 0] = 0.5
    found = values.with_shot_noise(image, rng(), PoissonSettings(photons=(100, 100)))[0, 1:]
    assert found.mean() == pytest.approx(0.75, abs=0.002)
    assert found.std() == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize(
    ("kind", "salt", "pepper"), [("salt", 0.2, 0), ("pepper", 0, 0.2), ("both", 0.1, 0.1)]
)
def test_salt_and_pepper_are_the_extremes_in_all_channels(kind, salt, pepper):
    image = some_image((2, 100, 100))
    settings = SaltPepperSettings(kind=kind, share=(0.2, 0.2))
    found = values.with_salt_and_pepper(image, rng(), settings)
    bright = found == image.max(axis=(1, 2), keepdims=True)
    dark = found == image.min(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose([bright.mean(), dark.mean()], [salt, pepper], atol=0.015)
    np.testing.assert_array_equal(found[~bright & ~dark], image[~bright & ~dark])


@pytest.mark.parametrize("fill", ["mean", "zero"])
def test_dropout_fills_the_same_voxels_of_all_channels(fill):
    image = some_image((2, 100, 100)) + 5
    found = values.with_dropout(image, rng(), DropoutSettings(share=(0.3, 0.3), fill=fill))
    lost = found != image
    np.testing.assert_array_equal(lost[0], lost[1])
    assert lost[0].mean() == pytest.approx(0.3, abs=0.02)
    expected = image.mean(axis=(1, 2)) if fill == "mean" else [0, 0]
    for channel in (0, 1):
        np.testing.assert_allclose(found[channel][lost[channel]], expected[channel], rtol=1e-5)
