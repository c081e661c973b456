"""The networks of the deep watershed: Direction Net, Watershed Transform Net, and all in a row.

Bai and Urtasun, Deep Watershed Transform for Instance Segmentation, CVPR 2017
(https://doi.org/10.1109/CVPR.2017.305, arXiv:1611.08303). Widths are multiples of the number of
feature maps `f` at full resolution, 64 as published.

Shapes: ``B`` batch, ``C`` channels of the image, ``D`` spatial axes, ``K`` channels of the depth,
``ZYX`` space (``YX`` in 2-D), whose sides are multiples of 16.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from instaseg.errors import ConfigError
from instaseg.methods.deep_watershed.targets import BACKGROUND
from instaseg.models.unet import CONVOLUTIONS, POOLINGS, TRANSPOSED

STEP = 16
"""Coarsest grid of the Direction Net in voxels."""

MEANS: dict[int, Any] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
DROPOUTS: dict[int, Any] = {2: nn.Dropout2d, 3: nn.Dropout3d}
LARGEST: dict[int, Any] = {2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}

HEADS = ("foreground", "directions", "depth")


class DirectionNet(nn.Module):
    """Directions away from the nearest boundary, from an image and a mask of its foreground.

    A trunk like VGG-16 with three side branches at strides 4, 8 and 16, which are brought to
    stride 4, put beside each other and mixed, and enlarged to full resolution.

    Parameters
    ----------
    in_channels : int
        Channels of the image and of the mask together.
    ndim : {2, 3}
        Spatial axes.
    fmaps : int
        Feature maps at full resolution; 64 as published.

    Notes
    -----
    Arrangement and initial weights are those of the authors' program
    (https://github.com/min2209/dwt): the last two poolings take means, transposed convolutions
    begin as linear interpolation, the last layer of each branch begins small, the deepest least so.
    """

    def __init__(self, in_channels: int, *, ndim: int, fmaps: int) -> None:
        super().__init__()
        f = fmaps
        maximum, mean = POOLINGS[ndim](2), MEANS[ndim](2)
        self.upper = nn.Sequential(
            *_convolutions(in_channels, f, 2, ndim),
            maximum,
            *_convolutions(f, 2 * f, 2, ndim),
            maximum,
            *_convolutions(2 * f, 4 * f, 3, ndim),
        )
        self.middle = nn.Sequential(mean, *_convolutions(4 * f, 8 * f, 3, ndim))
        self.lower = nn.Sequential(mean, *_convolutions(8 * f, 8 * f, 3, ndim))
        self.branches = nn.ModuleList(
            nn.Sequential(_branch(width * f, 4 * f, ndim, last=last), *enlarge)
            for width, last, enlarge in (
                (4, 1e-4, []),
                (8, 1e-3, [_enlarge(4 * f, 4 * f, 2, ndim)]),
                (8, 1e-2, [_enlarge(4 * f, 4 * f, 4, ndim)]),
            )
        )
        self.mix = nn.Sequential(
            *_convolution(12 * f, 8 * f, 1, ndim),
            *_convolution(8 * f, 8 * f, 1, ndim),
            _he_normal(CONVOLUTIONS[ndim](8 * f, ndim, 1)),
            _enlarge(ndim, ndim, 4, ndim),
        )

    def forward(self, image_and_mask: Tensor) -> Tensor:
        """Return vectors ``(B, D, ZYX)``, not normalised, of an input ``(B, C + 1, ZYX)``."""
        upper = self.upper(image_and_mask)
        middle = self.middle(upper)
        features = (upper, middle, self.lower(middle))
        sides = [branch(each) for branch, each in zip(self.branches, features, strict=True)]
        vectors: Tensor = self.mix(torch.cat(sides, dim=1))
        return vectors


class WatershedNet(nn.Module):
    """Levels of depth from directions alone.

    Parameters
    ----------
    out_channels : int
        Channels of the depth.
    ndim : {2, 3}
        Spatial axes.
    fmaps : int
        Feature maps of the first layer; 64 as published.

    Notes
    -----
    Unlike in published programs nothing cuts negative logits off, and dropout, of 0.3 of the maps,
    does not touch the logits.
    """

    def __init__(self, out_channels: int, *, ndim: int, fmaps: int) -> None:
        super().__init__()
        f = fmaps
        mean = MEANS[ndim](2)
        self.layers = nn.Sequential(
            *_convolution(ndim, f, 5, ndim),
            *_convolution(f, 2 * f, 5, ndim),
            mean,
            *itertools.chain.from_iterable(_convolution(2 * f, 2 * f, 5, ndim) for _ in range(4)),
            mean,
            *_convolution(2 * f, 2 * f, 1, ndim),
            DROPOUTS[ndim](0.3),
            _he_normal(CONVOLUTIONS[ndim](2 * f, out_channels, 1)),
            _enlarge(out_channels, out_channels, 4, ndim),
        )

    def forward(self, directions: Tensor) -> Tensor:
        """Return logits ``(B, K, ZYX)`` of directions ``(B, D, ZYX)``."""
        logits: Tensor = self.layers(directions)
        return logits


class StagedNetwork(nn.Module):
    """Foreground, then directions inside of it, then depths from directions.

    Parameters
    ----------
    foreground : Module
        ``(B, C, ZYX)`` in, a dict with ``foreground`` ``(B, 1 or 3, ZYX)`` logits out.
    directions : DirectionNet
    depth : WatershedNet
    gate : {"hard", "soft"}
        `hard` sets image, mask and directions to 0 outside the foreground; `soft` gives the
        Direction Net the probability of foreground as a channel and leaves the image as it is.
    corruption : float
        Share of true masks that are spoilt in training where the gate is soft.
    noise : float
        Standard deviation of what is added, in training, to each component of the directions that
        the Watershed Transform Net sees.
    """

    def __init__(
        self,
        foreground: nn.Module,
        directions: DirectionNet,
        depth: WatershedNet,
        *,
        gate: Literal["hard", "soft"],
        corruption: float,
        noise: float,
    ) -> None:
        super().__init__()
        self.foreground = foreground
        self.directions = directions
        self.depth = depth
        self._gate = gate
        self._corruption = corruption
        self._noise = noise

    def forward(
        self,
        image: Tensor,
        truth: Mapping[str, Tensor] | None = None,
        wanted: Collection[str] = HEADS,
    ) -> dict[str, Tensor]:
        """Return outputs by head name.

        Parameters
        ----------
        image : Tensor
            ``(B, C, ZYX)``.
        truth : mapping of str to Tensor, optional
            What is used in place of what the network predicts: ``classes`` ``(B, 1, ZYX)`` for the
            foreground, ``directions`` ``(B, D, ZYX)``.
        wanted : collection of str
            Heads to give; nothing is computed that these do not need.

        Returns
        -------
        dict of str to Tensor
            ``foreground`` and ``depth``: logits; ``directions``: unit vectors, or 0.
        """
        _check_shape(image)
        truth = truth or {}
        outputs: dict[str, Tensor] = {}
        needs_directions = "directions" in wanted or (
            "depth" in wanted and "directions" not in truth
        )
        if "foreground" in wanted or (needs_directions and "classes" not in truth):
            outputs["foreground"] = self.foreground(image)["foreground"]
        if needs_directions:
            mask = self._mask(outputs, truth)
            outputs["directions"] = self._directions(image, mask.to(image.dtype))
        if "depth" in wanted:
            given = truth.get("directions", outputs.get("directions"))
            assert given is not None  # directions are needed wherever they are not given
            if self.training:
                given = turned_a_little(given, self._noise)
            outputs["depth"] = self.depth(given.to(image.dtype))
        return {name: outputs[name] for name in HEADS if name in wanted}

    def _mask(self, outputs: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> Tensor:
        """Return the mask ``(B, 1, ZYX)`` that the Direction Net sees, 0 to 1."""
        if "classes" in truth:
            mask = (truth["classes"] != BACKGROUND).float()
            if self._gate == "soft" and self.training:
                return corrupt(mask, self._corruption)
            return mask
        probability = foreground_probability(outputs["foreground"])
        return probability if self._gate == "soft" else (probability > 0.5).float()

    def _directions(self, image: Tensor, mask: Tensor) -> Tensor:
        seen = image if self._gate == "soft" else image * mask
        vectors = self.directions(torch.cat((seen, mask), dim=1)).float()
        if self._gate == "hard":
            vectors = vectors * mask
        return nn.functional.normalize(vectors, dim=1)


class UnitDirections(nn.Module):
    """A network whose head ``directions`` is brought to length 1.

    Parameters
    ----------
    network : Module
        ``(B, C, ZYX)`` in, a dict by head name out.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the network by head name."""
        outputs: dict[str, Tensor] = self.network(image)
        vectors = nn.functional.normalize(outputs["directions"].float(), dim=1)
        return {**outputs, "directions": vectors}


def foreground_probability(logits: Tensor) -> Tensor:
    """Return the probability ``(B, 1, ZYX)`` of cell or wall from logits of 1 or 3 channels."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits.sigmoid()
    return 1 - logits.softmax(dim=1)[:, BACKGROUND : BACKGROUND + 1]


def corrupt(masks: Tensor, share: float) -> Tensor:
    """Return masks of which some are spoilt as a network's may be.

    Parameters
    ----------
    masks : Tensor
        ``(B, 1, ZYX)``, 0 or 1.
    share : float
        Probability that a mask is changed: in equal parts it grows or shrinks by a voxel, or a box
        of an eighth to a half of its sides is left out or added. Drawn from torch's generator.
    """
    space, changed = masks.shape[2:], []
    grow = LARGEST[len(space)]
    for mask in masks:
        if float(torch.rand(())) >= share:
            changed.append(mask)
            continue
        kind = int(torch.randint(4, ()))
        if kind == 0:
            changed.append(grow(mask[None], 3, stride=1, padding=1)[0])
        elif kind == 1:
            changed.append(1 - grow(1 - mask[None], 3, stride=1, padding=1)[0])
        else:
            spoilt = mask.clone()
            spoilt[(slice(None), *_random_box(space))] = float(kind == 3)
            changed.append(spoilt)
    return torch.stack(changed)


def turned_a_little(directions: Tensor, noise: float) -> Tensor:
    """Return unit vectors with noise, so that true ones look more like predicted ones.

    Parameters
    ----------
    directions : Tensor
        ``(B, D, ZYX)``, of length 1 or 0; those of length 0 stay.
    noise : float
        Standard deviation of what is added to each component before the length is 1 again. Drawn
        from torch's generator.
    """
    if noise == 0:
        return directions
    there = (directions != 0).any(dim=1, keepdim=True)
    moved = directions + noise * torch.randn_like(directions)
    return torch.where(there, nn.functional.normalize(moved, dim=1), directions)


def _random_box(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return a box inside a shape, of an eighth to a half of its sides."""
    box = []
    for side in shape:
        size = int(torch.randint(max(1, side // 8), max(2, side // 2 + 1), ()))
        begin = int(torch.randint(side - size + 1, ()))
        box.append(slice(begin, begin + size))
    return tuple(box)


def _check_shape(image: Tensor) -> None:
    if any(side % STEP for side in image.shape[2:]):
        raise ConfigError(
            f"[model] downsample_factors: expected tiles with sides that are multiples of {STEP}"
            f" for the Direction Net, found {list(image.shape[2:])}; let the product of the factors"
            f" of each axis be {STEP} (or a multiple), such as [[2, 2], [2, 2], [2, 2], [2, 2]]"
        )


def _convolution(fmaps_in: int, fmaps_out: int, side: int, ndim: int) -> list[nn.Module]:
    """Return a convolution that keeps the size, and what follows it."""
    layer = _he_normal(CONVOLUTIONS[ndim](fmaps_in, fmaps_out, side, padding=side // 2))
    return [layer, nn.ReLU(inplace=True)]


def _convolutions(fmaps_in: int, fmaps_out: int, number: int, ndim: int) -> list[nn.Module]:
    layers = _convolution(fmaps_in, fmaps_out, 3, ndim)
    for _ in range(number - 1):
        layers += _convolution(fmaps_out, fmaps_out, 3, ndim)
    return layers


def _branch(fmaps_in: int, fmaps_out: int, ndim: int, *, last: float) -> nn.Module:
    """Return a side branch whose last layer begins with weights of standard deviation `last`."""
    layers = [
        *_convolution(fmaps_in, fmaps_in, 5, ndim),
        *_convolution(fmaps_in, fmaps_in, 1, ndim),
        *_convolution(fmaps_in, fmaps_out, 1, ndim),
    ]
    nn.init.normal_(layers[-2].weight, std=last)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def _he_normal(layer: Any) -> Any:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def _enlarge(fmaps_in: int, fmaps_out: int, factor: int, ndim: int) -> nn.Module:
    """Return a transposed convolution that begins as linear interpolation, map by map."""
    layer = TRANSPOSED[ndim](
        fmaps_in, fmaps_out, 2 * factor, stride=factor, padding=factor // 2, bias=False
    )
    tent = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
    kernel = math.prod(
        (tent.reshape([-1 if a == axis else 1 for a in range(ndim)]) for axis in range(ndim)),
        start=torch.ones(()),
    )
    with torch.no_grad():
        layer.weight.zero_()
        for number in range(min(fmaps_in, fmaps_out)):
            layer.weight[number, number] = kernel
    module: nn.Module = layer
    return module
