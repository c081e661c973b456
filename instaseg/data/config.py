"""Tables ``[data]``, ``[training.sampling]`` and ``[training.augmentation]`` with its sub-tables.

``REMOVED_KEYS`` answers the keys that PatchPerPix had in these tables and this program has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from instaseg.settings import Table

Folder = Literal["train_data", "val_data", "test_data"]


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse an interval whose end lies before its begin."""
    if value[0] > value[1]:
        raise ValueError(f"must be [low, high] with low <= high; got {list(value)}")
    return value


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""``[low, high]`` of a uniform distribution."""

Probability = Annotated[float, Field(ge=0, le=1)]


class NormalizationSettings(Table):
    """How intensities are brought to a common range, per channel."""

    kind: Literal["percentile", "min_max", "mean_std", "none"] = "percentile"
    """`percentile` maps the percentiles `lower` and `upper` to 0 and 1, without clipping; `min_max`
    the smallest and largest value to 0 and 1; `mean_std` subtracts the mean and divides by the
    standard deviation; `none` leaves values as they are."""
    lower: float = Field(default=1.0, ge=0, lt=100)
    """Percentile (0 to 100) that becomes 0; only for `percentile`."""
    upper: float = Field(default=99.8, gt=0, le=100)
    """Percentile (0 to 100) that becomes 1; only for `percentile`."""
    scope: Literal["sample", "dataset"] = "sample"
    """`sample` measures each image by itself, so brightness may differ between images; `dataset`
    measures the training data once, so brightness keeps its meaning."""

    @model_validator(mode="after")
    def _check_percentiles(self) -> NormalizationSettings:
        if self.lower >= self.upper:
            raise ValueError(f"lower must be below upper; got {self.lower} and {self.upper}")
        return self


class DataSettings(Table):
    """Where images and labels are, and what they look like."""

    train_data: Path | None = None
    """Folder of samples to train on; relative to the file that names it, on the command line to the
    working directory, as the other two."""
    val_data: Path | None = None
    """Folder of samples that choose the checkpoint and its parameters."""
    test_data: Path | None = None
    """Folder of samples to segment, and to score where they have labels."""
    input_format: Literal["auto", "zarr", "hdf", "tiff"] = "auto"
    """What a folder holds: `zarr` folders, `hdf` files, or image files (`tiff`: TIFF and PNG, in
    `x/` and `y/` or `images/` and `masks/`); `auto` looks."""
    raw_key: str = "volumes/raw"
    """Array of the image in a zarr folder or HDF5 file."""
    gt_key: str = "volumes/gt_labels"
    """Array of the labels in a zarr folder or HDF5 file: integers, 0 is background."""
    instances_key: str = "volumes/gt_instances"
    """Array of overlapping instances in a zarr folder or HDF5 file: one channel per instance, not 0
    inside; read where there is no array `gt_key`."""
    mask_key: str | None = None
    """Array that is not 0 where labels are complete; without it they are complete everywhere. For
    partly labelled data: outside of it only what is labelled is learnt, see
    `method.mask_bg_weight`."""
    num_channels: int = Field(default=1, ge=1)
    """Channels of every image: 1 for grey, 3 for RGB."""
    ndim: Literal[2, 3] = 2
    """Spatial axes of every image: 2 for `y, x`, 3 for `z, y, x`."""
    voxel_size: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """Physical size of a voxel per axis; replaces the attribute `resolution` of the images."""
    cross_val_folders: tuple[Folder, Folder] = ("val_data", "test_data")
    """The two data sets `cross_validate` swaps: parameters chosen on one score the other."""
    normalization: NormalizationSettings = NormalizationSettings()
    """How intensities are normalised before training and prediction."""

    @field_validator("cross_val_folders")
    @classmethod
    def _check_folders(cls, value: tuple[Folder, Folder]) -> tuple[Folder, Folder]:
        if value[0] == value[1]:
            raise ValueError(f"must be two different data sets; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _check_voxel_size(self) -> DataSettings:
        if self.voxel_size is not None and len(self.voxel_size) != self.ndim:
            raise ValueError(
                f"voxel_size must be {self.ndim} numbers (ndim = {self.ndim});"
                f" got {list(self.voxel_size)}"
            )
        return self


class SamplingSettings(Table):
    """Where training crops are taken."""

    probability_random: Probability = 0.5
    """Share of crops at a place drawn evenly from all voxels of all images."""
    probability_fg: Probability = 0.5
    """Share of crops that contain a voxel of an instance; every instance is drawn equally often."""
    probability_overlap: Probability = 0.0
    """Share of crops that contain a voxel where instances overlap; every pair of them is drawn
    equally often. Where none overlap it counts as `probability_fg`."""
    min_masked: Probability = 0.0
    """Least share of foreground in a crop; one with less is drawn again, up to 20 times."""

    @model_validator(mode="after")
    def _check_sum(self) -> SamplingSettings:
        shares = (self.probability_random, self.probability_fg, self.probability_overlap)
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ValueError(
                "probability_random, probability_fg and probability_overlap must sum to 1;"
                f" got {' + '.join(map(str, shares))} = {sum(shares):g}"
            )
        return self


class ElasticSettings(Table):
    """Elastic deformation, rotation and zoom of image and labels together."""

    probability: Probability = 1.0
    """Share of crops that are deformed; 0 turns it off."""
    control_point_spacing: tuple[Annotated[int, Field(ge=1)], ...] = (32,)
    """Voxels between the points that are moved, per axis, or one number for all axes."""
    jitter_sigma: tuple[Annotated[float, Field(ge=0)], ...] = (2.0,)
    """Standard deviation in voxels of their movement, per axis, or one number for all axes."""
    rotation_min: float = 0.0
    """Least angle in degrees of the rotation in the y-x plane."""
    rotation_max: float = 360.0
    """Greatest angle in degrees of the rotation in the y-x plane."""
    zoom: Interval = (0.9, 1.1)
    """Range of the magnification, the same for all axes; `[1, 1]` keeps the size."""

    @field_validator("zoom")
    @classmethod
    def _check_zoom(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] <= 0:
            raise ValueError(f"must be positive; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _check_rotation(self) -> ElasticSettings:
        if self.rotation_min > self.rotation_max:
            raise ValueError(
                "rotation_min must not exceed rotation_max;"
                f" got {self.rotation_min} and {self.rotation_max}"
            )
        return self


Axes = Literal["all"] | tuple[Annotated[int, Field(ge=0, le=2)], ...]


class SimpleSettings(Table):
    """Mirroring and swapping of axes."""

    mirror: Axes = "all"
    """Axes that are mirrored in half of the crops, by number (0 is the first spatial axis), or
    `all`; `[]` for none."""
    transpose: Axes = "all"
    """Axes that are swapped at random, or `all`; choose axes of the same resolution, in 3-D mostly
    `[1, 2]`; `[]` for none."""


class IntensitySettings(Table):
    """Random contrast and brightness, after normalisation."""

    scale: Interval = (0.8, 1.2)
    """Range of the factor on the deviation from the crop's mean."""
    shift: Interval = (-0.1, 0.1)
    """Range of what is added; 1 is the range of a normalised image."""


class BlurSettings(Table):
    """Random Gaussian blur."""

    sigma: Interval = (0.0, 1.5)
    """Range of the standard deviation in voxels."""
    probability: Probability = 0.0
    """Share of crops that are blurred."""

    @field_validator("sigma")
    @classmethod
    def _check_sigma(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] < 0:
            raise ValueError(f"must not be negative; got {list(value)}")
        return value


class NoiseSettings(Table):
    """Random Gaussian noise, after normalisation."""

    sigma: float = Field(default=0.05, ge=0)
    """Greatest standard deviation; each crop draws its own between 0 and this."""
    probability: Probability = 0.0
    """Share of crops that get noise."""


class OverlaySettings(Table):
    """A second crop laid over the first: makes overlaps, or more of them than the data have."""

    probability: Probability = 0.0
    """Share of crops that get another one laid over them; 0 turns it off."""
    combine: Literal["max", "min"] = "max"
    """Which intensity is kept: `max` for bright instances on dark ground, `min` for dark ones on
    bright ground."""


class HueSettings(Table):
    """Random turn of the hue of RGB images; brightest and darkest channel keep their values."""

    probability: Probability = 0.0
    """Share of crops whose hue is turned; 0 turns it off. Needs `data.num_channels = 3`."""
    range: Interval = (-30.0, 30.0)
    """Range of the turn in degrees; 120 makes red green."""


class PermuteChannelsSettings(Table):
    """Channels in random order, for images whose colours have no meaning."""

    probability: Probability = 0.0
    """Share of crops whose channels are permuted; 0 turns it off. Needs more than one channel."""


class AugmentationSettings(Table):
    """Random changes of training crops."""

    elastic: ElasticSettings = ElasticSettings()
    """Deformation, rotation and zoom."""
    simple: SimpleSettings = SimpleSettings()
    """Mirroring and transposition."""
    overlay: OverlaySettings = OverlaySettings()
    """Crops laid over crops."""
    permute_channels: PermuteChannelsSettings = PermuteChannelsSettings()
    """Order of the channels."""
    hue: HueSettings = HueSettings()
    """Hue of RGB images."""
    intensity: IntensitySettings = IntensitySettings()
    """Contrast and brightness."""
    blur: BlurSettings = BlurSettings()
    """Blur."""
    noise: NoiseSettings = NoiseSettings()
    """Noise."""


REMOVED_KEYS: Mapping[str, Mapping[str, str]] = {
    "data": {
        "voxel_unit": "units are read from the attribute `units` of the images",
        "fg_key": "foreground is where the labels are not 0",
        "one_instance_per_channel": (
            "an array named by instances_key has one channel per instance, one named by gt_key one"
            " label per voxel; remove it"
        ),
    },
    "preprocessing": {
        "clipmax": "use [data.normalization] kind = 'percentile' with upper",
        "clip": "use [data.normalization] kind = 'percentile' with upper",
        "scale": "use [data.normalization] kind = 'min_max'",
        "normalize": "use [data.normalization] kind",
        "standardize": "use [data.normalization] kind = 'mean_std'",
    },
    "training.sampling": {
        "overlap_csv_folder": "locations come from the labels; set probability_overlap",
        "fg_csv_folder": "locations come from the labels; set probability_fg",
        "sample_fg_points": "set probability_fg",
        "point_balance_radius": "every instance is drawn equally often with probability_fg",
        "point_balance_radius_overlap": (
            "every pair of instances that overlap is drawn equally often with probability_overlap"
        ),
    },
    "training.augmentation": {
        "shift_intensity": "set shift in [training.augmentation.intensity]",
        "scale_intensity": "set scale in [training.augmentation.intensity]",
        "add_partly": "set probability in [training.augmentation.overlay]",
    },
    "training.augmentation.intensity": {
        "scale_min": "set scale = [low, high]",
        "scale_max": "set scale = [low, high]",
        "shift_min": "set shift = [low, high]",
        "shift_max": "set shift = [low, high]",
    },
    "training.augmentation.elastic": {
        "subsample": "the deformation is computed at every voxel, fast enough; remove it",
        "rotate": "set rotation_min and rotation_max, in degrees",
        "rotation_interval": "set rotation_min and rotation_max, in degrees",
        "scale_interval": "set zoom",
        "prob_elastic": "set probability",
        "prob_slip": "slipped sections are not simulated; remove it",
        "prob_shift": "shifted sections are not simulated; remove it",
        "max_misalign": "shifted sections are not simulated; remove it",
    },
    "training.augmentation.simple": {
        "mirror_only": "set mirror",
        "transpose_only": "set transpose",
    },
}
"""Keys of PatchPerPix that are gone, by table, and what to do instead."""
