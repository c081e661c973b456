"""Tables ``[model]``, the trunk of the network, and ``[method.code]``, its decoder of patch codes.

Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from instaseg.models import shapes
from instaseg.settings import Shape, Table

REMOVED_KEYS: dict[str, str] = {
    "model.train_net_name": "networks are built from [model] and stored as checkpoints; remove it",
    "model.test_net_name": "networks are built from [model] and stored as checkpoints; remove it",
    "model.train_input_shape_valid": "use model.train_input_shape",
    "model.train_input_shape_same": "use model.train_input_shape",
    "model.test_input_shape_valid": "use model.test_input_shape",
    "model.test_input_shape_same": "use model.test_input_shape",
    "model.train_padding": "use model.padding; training and prediction share it",
    "model.val_padding": "use model.padding; training and validation share it",
    "model.patchshape": "use method.patch_shape",
    "model.patchstride": "patches are predicted at every voxel; remove it",
    "model.num_output_fmaps": "follows from method.patch_shape; remove it",
    "model.num_fmaps_out": "follows from method.patch_shape; remove it",
    "model.patch_activation": "patches are probabilities (sigmoid); remove it",
    "model.overlapping_inst": 'use method.foreground = "count" (true) or "head" (false)',
    "model.max_num_inst": "use method.max_num_inst",
    "model.train_code": 'use method.prediction = "codes" (true) or "patches" (false)',
    "model.code_units": "use method.code.code_units",
    "model.autoencoder": "the decoder is described by [method.code]; remove the table",
    "model.autoencoder_chkpt": "use method.code.autoencoder_chkpt",
    "model.decode_batch_size": "use method.code.batch_size",
    "model.network_style": "the network is a U-Net; remove it",
}


class ModelSettings(Table):
    """Size and kind of the U-Net that all heads share."""

    num_fmaps: int = Field(default=24, ge=1)
    """Feature maps at full resolution; memory grows in proportion, time up to its square."""
    fmap_inc_factors: float | tuple[float, ...] = 2.0
    """Growth of the number of feature maps from one level down to the next; one number, or one for
    each level."""
    fmap_dec_factors: float | tuple[float, ...] | None = None
    """Shrinkage of the number of feature maps from one level up to the next, one number or one for
    each level from the top; left out, it mirrors the growth."""
    downsample_factors: tuple[tuple[int, ...], ...] = ((2, 2), (2, 2), (2, 2))
    """Reduction in voxels for each level from the top, one list per level with one factor per axis;
    `[1, 2, 2]` keeps z."""
    kernel_size: int | tuple[int, ...] = 3
    """Side of the convolutions in voxels, odd; one number, or one for each axis."""
    num_repetitions: int = Field(default=2, ge=1)
    """Convolutions in a row at each level, on the way down and on the way up."""
    upsampling: Literal["resize_conv", "trans_conv"] = "resize_conv"
    """The way up: 1x1 convolution and interpolation, or a transposed convolution."""
    interpolation: Literal["nearest", "linear"] = "nearest"
    """Interpolation of `resize_conv`; `linear` is smoother and slower."""
    padding: Literal["valid", "same"] = "valid"
    """`valid` gives outputs smaller than inputs and never sees an artificial border; `same` pads
    with zeros: less work for each output, but crops are trained with such borders."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = "relu"
    """Function after each convolution."""
    normalization: Literal["none", "batch"] = "none"
    """Between convolution and activation; `batch` learns faster, and wants batches of 4 or more."""
    train_input_shape: Shape = (220, 220)
    """Voxels the network sees of each training crop; must fit the levels (the message names the
    nearest shapes that do)."""
    test_input_shape: Shape = (412, 412)
    """Largest tile in voxels the network sees in prediction, its halo included; changes memory and
    speed, not the result (but near the seams of tiles for `network = "stages"` of
    `deep_watershed`, whose Direction Net sees farther than the halo)."""

    @field_validator("downsample_factors")
    @classmethod
    def _levels_have_same_axes(
        cls, value: tuple[tuple[int, ...], ...]
    ) -> tuple[tuple[int, ...], ...]:
        axes = {len(level) for level in value}
        if len(axes) > 1 or not axes <= {2, 3}:
            raise ValueError(f"must have 2 or 3 factors at each level; got {_lists(value)}")
        if any(factor < 1 for level in value for factor in level):
            raise ValueError(f"must be factors of 1 or more; got {_lists(value)}")
        return value

    @field_validator("kernel_size")
    @classmethod
    def _kernel_is_odd(cls, value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        sides = value if isinstance(value, tuple) else (value,)
        if any(side < 1 or side % 2 == 0 for side in sides):
            raise ValueError(f"must be odd and positive; got {value}")
        return value

    @field_validator("fmap_inc_factors", "fmap_dec_factors")
    @classmethod
    def _factors_are_positive(
        cls, value: float | tuple[float, ...] | None
    ) -> float | tuple[float, ...] | None:
        factors = value if isinstance(value, tuple) else (value,)
        if any(factor is not None and factor <= 0 for factor in factors):
            raise ValueError(f"must be positive; got {value}")
        return value

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        problems = [*self._axis_problems(), *self._level_problems()]
        if not problems:
            for name in ("train_input_shape", "test_input_shape"):
                problem = shapes.shape_problem(self, getattr(self, name))
                problems += [f"{name} {problem}"] if problem else []
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _axis_problems(self) -> list[str]:
        found = len(self.train_input_shape)
        problems = []
        if len(self.test_input_shape) != found:
            problems.append(
                f"test_input_shape must have {found} axes as train_input_shape has; got"
                f" {list(self.test_input_shape)}"
            )
        if isinstance(self.kernel_size, tuple) and len(self.kernel_size) != found:
            problems.append(
                f"kernel_size must have one side for each of the {found} axes of"
                f" train_input_shape; got {list(self.kernel_size)}"
            )
        if any(len(level) != found for level in self.factors):
            problems.append(
                f"downsample_factors must have {found} factors at each level, one for each axis of"
                f" train_input_shape; got {_lists(self.downsample_factors)}"
            )
        return problems

    def _level_problems(self) -> list[str]:
        levels = len(self.downsample_factors)
        return [
            f"{name} must be one number or {levels}, one for each level of downsample_factors; got"
            f" {list(value)}"
            for name in ("fmap_inc_factors", "fmap_dec_factors")
            if isinstance(value := getattr(self, name), tuple) and len(value) != levels
        ]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.train_input_shape)

    @property
    def factors(self) -> tuple[tuple[int, ...], ...]:
        """Reduction of each level per axis; for 2-D data a leading 1 (z) is dropped."""
        flat = all(len(level) == 3 and level[0] == 1 for level in self.downsample_factors)
        drop = 1 if flat and self.ndim == 2 else 0
        return tuple(level[drop:] for level in self.downsample_factors)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Side of the convolutions per axis, in voxels."""
        if isinstance(self.kernel_size, tuple):
            return self.kernel_size
        return (self.kernel_size,) * self.ndim

    @property
    def fmaps_down(self) -> tuple[int, ...]:
        """Feature maps of each level on the way down, from full resolution to the lowest."""
        fmaps = [float(self.num_fmaps)]
        for factor in _per_level(self.fmap_inc_factors, len(self.factors)):
            fmaps.append(fmaps[-1] * factor)
        return tuple(max(1, round(n)) for n in fmaps)

    @property
    def fmaps_up(self) -> tuple[int, ...]:
        """Feature maps of each level on the way up, from full resolution down; the lowest last."""
        down = self.fmaps_down
        if self.fmap_dec_factors is None:
            return down
        fmaps = [float(down[-1])]
        for factor in reversed(_per_level(self.fmap_dec_factors, len(self.factors))):
            fmaps.append(fmaps[-1] / factor)
        return tuple(max(1, round(n)) for n in reversed(fmaps))


class CodeSettings(Table):
    """Patch codes: a decoder turns the numbers predicted at one voxel into its patch."""

    code_units: int = Field(default=256, ge=1)
    """Numbers predicted at each voxel; a multiple of the voxels of the decoder's smallest maps
    (`ceil(patch side / 2^steps)` per axis): 256 at 25x25, 252 at 41x41, 176 at 7x7x7."""
    decoder_fmaps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(32, 16, 8), min_length=1
    )
    """Feature maps after each of the decoder's up-sampling steps, each of which doubles the size;
    the last ones are the largest and take most of the time."""
    upsampling: Literal["resize_conv", "trans_conv"] = "resize_conv"
    """The decoder's steps: enlarge and convolve, or a transposed convolution."""
    kind: Literal["conv", "conv1x1"] = "conv1x1"
    """Convolution of the decoder that reads the code (and of the encoder that writes it): side 3,
    or 1."""
    patches_per_crop: int = Field(default=1024, ge=1)
    """Voxels of each training crop whose codes are decoded and compared with the true patch."""
    batch_size: int = Field(default=1024, ge=1)
    """Codes decoded at a time in prediction, rounded up to a multiple of 64; memory and speed, not
    the result."""
    decode: Literal["auto", "stage", "label"] = "auto"
    """Write decoded patches in the stage `decode`, or decode in `label` block by block, so that
    patches are never on disk; `auto` writes them for images and does not for volumes."""
    autoencoder_chkpt: Path | None = None
    """Checkpoint, or folder of checkpoints, whose decoder `train` begins with: of
    `train_autoencoder`, or of a training with codes."""
    decoder_training: Literal["joint", "frozen"] = "joint"
    """Train the decoder together with the network, or leave it as the autoencoder's."""

    @property
    def steps(self) -> int:
        """Number of up-sampling steps."""
        return len(self.decoder_fmaps)

    def sizes(self, patch_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the decoder's shapes before the first and after each step, in voxels.

        Examples
        --------
        >>> CodeSettings().sizes((41, 41))
        [(6, 6), (11, 11), (21, 21), (41, 41)]
        """
        return [
            tuple(-(-side // 2**left) for side in patch_shape) for left in range(self.steps, -1, -1)
        ]

    def problem(self, patch_shape: Sequence[int]) -> str | None:
        """Return why a code does not fit a patch and which ones do, or None if it fits."""
        smallest = self.sizes(patch_shape)[0]
        voxels = math.prod(smallest)
        if self.code_units % voxels == 0:
            return None
        below = self.code_units // voxels * voxels
        nearest = f"{below} or {below + voxels}" if below else f"{voxels}"
        return (
            f"code_units must be a multiple of {voxels}, because {self.steps} steps (decoder_fmaps)"
            f" to patch_shape {list(patch_shape)} begin at {list(smallest)} voxels; got"
            f" {self.code_units}. The nearest that fit: {nearest}"
        )


def _per_level(value: float | tuple[float, ...], levels: int) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * levels


def _lists(value: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    return [list(level) for level in value]
