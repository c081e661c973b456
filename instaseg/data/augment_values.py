"""Random changes of a crop's values: colours, gamma, blur, noise.

Each function takes a normalised image ``(c, [z,] y, x)`` of float32, a generator and settings, and
returns a new one of the same shape and type.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.data.config import (
    BlurSettings,
    DropoutSettings,
    GammaSettings,
    HueSettings,
    NoiseSettings,
    PoissonSettings,
    SaltPepperSettings,
)

Image = NDArray[np.float32]


def permuted_channels(image: Image, rng: np.random.Generator) -> Image:
    """Return the channels in random order."""
    return image[rng.permutation(len(image))]


def without_colour(image: Image, rng: np.random.Generator) -> Image:  # noqa: ARG001
    """Return an image of which every channel is the mean of all."""
    mean = image.mean(axis=0, dtype=np.float32)
    return np.repeat(mean[np.newaxis], len(image), axis=0)


def other_hue(image: Image, rng: np.random.Generator, settings: HueSettings) -> Image:
    """Return an RGB image with its hue turned by a random angle."""
    return turn_hue(image, rng.uniform(*settings.range))


def turn_hue(image: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Return an RGB image ``(3, ...)`` with its hue turned, brightest and darkest values kept.

    Works for any range of values, unlike conversions that expect 0 to 1: hue is where the middle
    channel lies between the other two (Smith 1978, "Color gamut transform pairs").

    Examples
    --------
    >>> turn_hue(np.array([[5.0], [-1.0], [-1.0]], np.float32), 60).ravel().tolist()  # red: yellow
    [5.0, 5.0, -1.0]
    """
    red, green, blue = image
    high, low = image.max(axis=0), image.min(axis=0)
    chroma = high - low
    scale = np.divide(1, chroma, where=chroma > 0, out=np.zeros_like(chroma))
    hue = np.where(
        high == red,
        (green - blue) * scale,
        np.where(high == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    ).astype(np.float32)
    hue += np.float32(degrees / 60)
    turned = np.empty_like(image)
    for channel, shift in enumerate((5, 3, 1)):
        # Distance along the circle of six sixths: high on two of them, low on two, and between.
        k = np.mod(hue + shift, 6)
        turned[channel] = high - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return turned


def gamma_curve(image: Image, rng: np.random.Generator, settings: GammaSettings) -> Image:
    """Return ``low + (high - low) * ((value - low) / (high - low))^g``, channel by channel.

    `low` and `high` are the channel's least and greatest value in the crop, so it works for every
    normalisation; `g` is the same for all channels.
    """
    low, high = _extremes(image)
    spread = np.where(high > low, high - low, 1).astype(np.float32)
    exponent = np.float32(rng.uniform(*settings.range))
    return low + spread * ((image - low) / spread) ** exponent


def blurred(image: Image, rng: np.random.Generator, settings: BlurSettings) -> Image:
    """Return an image blurred by a Gaussian of random width, the same in all channels."""
    sigma = rng.uniform(*settings.sigma)
    smooth: Image = ndimage.gaussian_filter(image, (0, *(sigma,) * (image.ndim - 1)))
    return smooth


def with_noise(image: Image, rng: np.random.Generator, settings: NoiseSettings) -> Image:
    """Return an image with Gaussian noise of random strength, the same in all channels."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return image + noise * np.float32(rng.uniform(0, settings.sigma))


def with_shot_noise(image: Image, rng: np.random.Generator, settings: PoissonSettings) -> Image:
    """Return an image as if counted in photons; each channel's darkest value is no light."""
    low, _ = _extremes(image)
    photons = np.float32(rng.uniform(*settings.photons))
    return low + rng.poisson((image - low) * photons).astype(np.float32) / photons


def with_salt_and_pepper(
    image: Image, rng: np.random.Generator, settings: SaltPepperSettings
) -> Image:
    """Return an image with some voxels at each channel's greatest or least value."""
    low, high = _extremes(image)
    drawn = rng.random(image.shape[1:], dtype=np.float32)
    share = rng.uniform(*settings.share)
    salt = {"salt": share, "pepper": 0.0, "both": share / 2}[settings.kind]
    return np.where(drawn < salt, high, np.where(drawn < share, low, image))


def with_dropout(image: Image, rng: np.random.Generator, settings: DropoutSettings) -> Image:
    """Return an image with some voxels at each channel's mean, or at 0."""
    drawn = rng.random(image.shape[1:], dtype=np.float32)
    lost = drawn < rng.uniform(*settings.share)
    return np.where(lost, mean_or_zero(image, settings.fill), image)


def mean_or_zero(image: Image, fill: str) -> Image:
    """Return each channel's mean where `fill` is ``mean``, else 0, ``(c, 1, ...)``."""
    mean: Image = image.mean(axis=tuple(range(1, image.ndim)), keepdims=True, dtype=np.float32)
    return mean if fill == "mean" else np.zeros_like(mean)


def _extremes(image: Image) -> tuple[Image, Image]:
    """Return the least and the greatest value of each channel, ``(c, 1, ...)``."""
    space = tuple(range(1, image.ndim))
    return image.min(axis=space, keepdims=True), image.max(axis=space, keepdims=True)
