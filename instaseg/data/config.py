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


Beyond = Literal["mirrored", "unknown"]
"""How labels of instances go on beyond the image."""

Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""``[low, high]`` of a uniform distribution."""


def _positive(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse an interval that begins at 0 or below."""
    if value[0] <= 0:
        raise ValueError(f"must be positive; got {list(value)}")
    return value


def _share(value: tuple[float, float]) -> tuple[float, float]:
    """Refuse an interval that leaves the range from 0 to 1."""
    if value[0] < 0 or value[1] > 1:
        raise ValueError(f"must lie between 0 and 1; got {list(value)}")
    return value


PositiveInterval = Annotated[Interval, AfterValidator(_positive)]
ShareInterval = Annotated[Interval, AfterValidator(_share)]


def _counts(value: tuple[int, int]) -> tuple[int, int]:
    """Refuse a range of numbers whose end lies before its begin."""
    if value[0] > value[1]:
        raise ValueError(f"must be [low, high] with low <= high; got {list(value)}")
    return value


Counts = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], AfterValidator(_counts)
]
"""``[low, high]`` of a number that is drawn evenly, both ends included."""

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


class ObjectSizeSettings(Table):
    """Images resized so that their objects have a common diameter, in training and prediction."""

    target: Literal["none"] | Annotated[float, Field(gt=0)] = "none"
    """Diameter in voxels that objects are resized to: in training each image by the median diameter
    of its labelled instances, or connected regions of classes above 0; `none` leaves images as they
    are. Results come back at the size of the image."""
    diameter: Literal["two_pass"] | Annotated[float, Field(gt=0)] = "two_pass"
    """Diameter of the objects in images that are predicted, in voxels; `two_pass` measures it in a
    first prediction of (the middle of) each image, resized as suits most training images."""
    axes: Literal["plane", "all"] = "plane"
    """Axes of a volume that are resized: `plane` leaves z as it is, `all` is for volumes of equal
    resolution; in images both are the same."""
    max_factor: float = Field(default=4.0, ge=1)
    """Greatest factor by which an image is enlarged or reduced."""


class SplitSettings(Table):
    """Part of the training samples held out for validation, instead of `val_data`."""

    folds: Literal[0] | Annotated[int, Field(ge=2)] = 0
    """Parts that the samples of `train_data` are dealt into, by a hash of their names; 0 takes
    `val_data` instead."""
    fold: int = Field(default=1, ge=1)
    """Which part validates, from 1; the others train. Cross validation is one experiment for
    each."""

    @model_validator(mode="after")
    def _check_fold(self) -> SplitSettings:
        if self.folds and self.fold > self.folds:
            raise ValueError(f"fold must be at most folds; got {self.fold} of {self.folds}")
        return self


class FilterSettings(Table):
    """Training samples that are left out: those with a value outside of a range that is given."""

    foreground: ShareInterval | None = None
    """Least and greatest share of voxels in instances, `[0.01, 1]` for example."""
    mean: Interval | None = None
    """Range of the mean of the image as it is stored, over all channels; `inf` is no limit."""
    min: Interval | None = None
    """Range of its least value."""
    max: Interval | None = None
    """Range of its greatest value."""
    std: Interval | None = None
    """Range of its standard deviation."""


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
    stack: Literal["none", "z"] = "none"
    """`z` takes the 2-D image files of a folder as the sections of one volume, in the order of the
    numbers in their names; where `x/` has folders, each of these is a volume. Needs `ndim = 3`."""
    raw_key: str = "volumes/raw"
    """Array of the image in a zarr folder or HDF5 file."""
    gt_key: str = "volumes/gt_labels"
    """Array of the labels in a zarr folder or HDF5 file: integers, 0 is background."""
    instances_key: str = "volumes/gt_instances"
    """Array of overlapping instances in a zarr folder or HDF5 file: one channel per instance, not 0
    inside; read where there is no array `gt_key`."""
    points_key: str = "volumes/gt_points"
    """Array of sites of synapses in a zarr folder or HDF5 file, for `method.name = "synapses"`: a
    row of kind, position in voxels, probability, threshold and partner each. HDF5 files without it
    may have the annotations of CREMI."""
    class_key: str = "volumes/gt_classes"
    """Array of the class of every voxel's instance in a zarr folder or HDF5 file, 0 where it is not
    known; read where `method.instance_classes.count` is above 0."""
    label_channels: Literal["labels", "labels_and_classes"] = "labels"
    """What image files of labels hold: labels alone, or, as BiaPy has it, two channels, labels and
    the classes of their instances."""
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
    object_size: ObjectSizeSettings = ObjectSizeSettings()
    """How images are resized to a common size of their objects."""
    split: SplitSettings = SplitSettings()
    """Part of the training samples held out for validation."""
    filters: FilterSettings = FilterSettings()
    """Training samples that are left out."""

    @property
    def validates(self) -> bool:
        """Whether there are samples for validation."""
        return self.val_data is not None or self.split.folds > 0

    @field_validator("cross_val_folders")
    @classmethod
    def _check_folders(cls, value: tuple[Folder, Folder]) -> tuple[Folder, Folder]:
        if value[0] == value[1]:
            raise ValueError(f"must be two different data sets; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _check_stack(self) -> DataSettings:
        if self.stack == "z" and self.ndim != 3:
            raise ValueError(
                f"stack = 'z' makes volumes of images: ndim must be 3; got {self.ndim}"
            )
        return self

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
    """Share of crops that contain a voxel of an instance, or of a class other than 0, drawn from
    all of them as `balance` says."""
    probability_bg: Probability = 0.0
    """Share of crops that contain a voxel of the background, drawn evenly from all of them."""
    probability_overlap: Probability = 0.0
    """Share of crops that contain a voxel where instances overlap; every pair of them is drawn
    equally often. Where none overlap it counts as `probability_fg`."""
    balance: Literal["each", "voxels"] = "each"
    """Which foreground voxel is drawn: `each` makes every instance, in semantic segmentation every
    class, equally frequent, `voxels` every voxel."""
    place: Literal["anywhere", "centre"] = "anywhere"
    """Where the drawn voxel lies in its crop: `anywhere`, or in the `centre` as far as the border
    of the image allows."""
    min_masked: Probability = 0.0
    """Least share of foreground in a crop; one with less is drawn again, up to 20 times."""

    @model_validator(mode="after")
    def _check_sum(self) -> SamplingSettings:
        shares = (
            self.probability_random,
            self.probability_fg,
            self.probability_bg,
            self.probability_overlap,
        )
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ValueError(
                "probability_random, probability_fg, probability_bg and probability_overlap must"
                f" sum to 1; got {' + '.join(map(str, shares))} = {sum(shares):g}"
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
    zoom: PositiveInterval = (0.9, 1.1)
    """Range of the magnification, the same for all axes; `[1, 1]` keeps the size. Where images show
    objects of very different sizes, take a wide one such as `[0.5, 2]`, or `data.object_size`."""
    shear: Interval = (0.0, 0.0)
    """Range of the angle in degrees by which the y axis is slanted towards x, in physical space;
    `[0, 0]` turns it off."""

    @field_validator("shear")
    @classmethod
    def _check_shear(cls, value: tuple[float, float]) -> tuple[float, float]:
        if max(map(abs, value)) >= 90:
            raise ValueError(f"must lie between -90 and 90 degrees; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _check_rotation(self) -> ElasticSettings:
        if self.rotation_min > self.rotation_max:
            raise ValueError(
                "rotation_min must not exceed rotation_max;"
                f" got {self.rotation_min} and {self.rotation_max}"
            )
        return self


class MisalignmentSettings(Table):
    """Sections of a volume that lie beside their place; labels lie there too. Only for volumes."""

    probability: Probability = 0.0
    """Share of crops with a misaligned place; 0 turns it off. Needs `data.ndim = 3`."""
    kind: Literal["one_section", "from_section", "either"] = "either"
    """What is moved in the y-x plane: one section, all from one section on, or one or the other by
    chance."""
    max_shift: int = Field(default=8, ge=1)
    """Greatest movement in voxels, per axis."""


Axes = Literal["all"] | tuple[Annotated[int, Field(ge=0, le=2)], ...]


class SimpleSettings(Table):
    """Mirroring and swapping of axes."""

    mirror: Axes = "all"
    """Axes that are mirrored in half of the crops, by number (0 is the first spatial axis), or
    `all`; `[]` for none."""
    transpose: Axes = "all"
    """Axes that are swapped at random, or `all` along which voxels have the same size; `[]` for
    none."""


class IntensitySettings(Table):
    """Random contrast and brightness, after normalisation."""

    probability: Probability = 1.0
    """Share of crops whose contrast and brightness change."""
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


class GammaSettings(Table):
    """Random gamma curve between the darkest and the brightest value of a crop, per channel."""

    probability: Probability = 0.0
    """Share of crops that are changed; 0 turns it off."""
    range: PositiveInterval = (0.7, 1.5)
    """Range of the exponent: below 1 brightens, above 1 darkens, 1 changes nothing."""


class NoiseSettings(Table):
    """Random Gaussian noise, after normalisation."""

    sigma: float = Field(default=0.05, ge=0)
    """Greatest standard deviation; each crop draws its own between 0 and this."""
    probability: Probability = 0.0
    """Share of crops that get noise."""


class PoissonSettings(Table):
    """Random shot noise, as of few photons; the darkest value of a crop counts as no light."""

    probability: Probability = 0.0
    """Share of crops that get noise; 0 turns it off."""
    photons: PositiveInterval = (20.0, 200.0)
    """Range of the photons that make up a value of 1 above the darkest; fewer are noisier."""


class SaltPepperSettings(Table):
    """Single voxels at the crop's brightest (salt) or darkest (pepper) value, in all channels."""

    probability: Probability = 0.0
    """Share of crops that are changed; 0 turns it off."""
    kind: Literal["salt", "pepper", "both"] = "both"
    """Which values they take; with `both` one half each."""
    share: ShareInterval = (0.0, 0.02)
    """Range of the share of voxels."""


class DropoutSettings(Table):
    """Single voxels that lose their value, in all channels."""

    probability: Probability = 0.0
    """Share of crops that are changed; 0 turns it off."""
    share: ShareInterval = (0.0, 0.1)
    """Range of the share of voxels."""
    fill: Literal["mean", "zero"] = "mean"
    """What they get: the crop's mean per channel, or 0 (of the normalised image)."""


class CutoutSettings(Table):
    """Boxes of the image that are hidden or spoilt; labels stay, so their content is guessed."""

    probability: Probability = 0.0
    """Share of crops that are changed; 0 turns it off."""
    count: Counts = (1, 3)
    """Range of the number of boxes."""
    size: ShareInterval = (0.05, 0.25)
    """Range of a box's extent as a share of the crop's, drawn for each axis."""
    fill: Literal["mean", "zero", "noise", "blur"] = "mean"
    """What is shown instead: the crop's mean per channel, 0, the image with Gaussian noise as
    strong as its contrast, or the image blurred (standard deviation of 4 voxels)."""


class MissingSectionsSettings(Table):
    """Sections of a volume without an image of their own. Only for volumes."""

    probability: Probability = 0.0
    """Share of crops that lack sections; 0 turns it off. Needs `data.ndim = 3`."""
    count: Counts = (1, 2)
    """Range of the number of sections that follow each other."""
    fill: Literal["zero", "previous"] = "zero"
    """What is shown instead: 0 (of the normalised image), or the section before them."""


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


class GrayscaleSettings(Table):
    """Random images without colour: every channel becomes the mean of all."""

    probability: Probability = 0.0
    """Share of crops that lose their colour; 0 turns it off. Needs more than one channel."""


class PermuteChannelsSettings(Table):
    """Channels in random order, for images whose colours have no meaning."""

    probability: Probability = 0.0
    """Share of crops whose channels are permuted; 0 turns it off. Needs more than one channel."""


class AugmentationSettings(Table):
    """Random changes of training crops."""

    elastic: ElasticSettings = ElasticSettings()
    """Deformation, rotation, shear and zoom."""
    misalignment: MisalignmentSettings = MisalignmentSettings()
    """Sections beside their place."""
    simple: SimpleSettings = SimpleSettings()
    """Mirroring and transposition."""
    overlay: OverlaySettings = OverlaySettings()
    """Crops laid over crops."""
    permute_channels: PermuteChannelsSettings = PermuteChannelsSettings()
    """Order of the channels."""
    hue: HueSettings = HueSettings()
    """Hue of RGB images."""
    grayscale: GrayscaleSettings = GrayscaleSettings()
    """Images without colour."""
    intensity: IntensitySettings = IntensitySettings()
    """Contrast and brightness."""
    gamma: GammaSettings = GammaSettings()
    """Gamma curve."""
    blur: BlurSettings = BlurSettings()
    """Blur."""
    poisson: PoissonSettings = PoissonSettings()
    """Shot noise."""
    noise: NoiseSettings = NoiseSettings()
    """Gaussian noise."""
    salt_pepper: SaltPepperSettings = SaltPepperSettings()
    """Bright and dark voxels."""
    dropout: DropoutSettings = DropoutSettings()
    """Voxels without a value."""
    cutout: CutoutSettings = CutoutSettings()
    """Hidden boxes."""
    missing_sections: MissingSectionsSettings = MissingSectionsSettings()
    """Sections without an image."""


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
        "prob_slip": "set probability and kind in [training.augmentation.misalignment]",
        "prob_shift": "set probability and kind in [training.augmentation.misalignment]",
        "max_misalign": "set max_shift in [training.augmentation.misalignment]",
    },
    "training.augmentation.simple": {
        "mirror_only": "set mirror",
        "transpose_only": "set transpose",
    },
}
"""Keys of PatchPerPix that are gone, by table, and what to do instead."""
