"""What a network is, in numbers and words; nothing is computed, so it takes no time and memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_FLOAT_BYTES = 4
_GIB = 2**30
# Adam keeps two averages for each weight, beside the weight and its gradient.
_COPIES_IN_TRAINING = 4


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated memory of one batch, in bytes, with 32-bit numbers (16-bit ones take half).

    Parameters
    ----------
    training : int
        Weights, gradients, the optimizer's averages, and all activations, which the backward pass
        needs; without the loss.
    prediction : int
        Weights and the largest set of activations that one layer needs at a time, as if all skip
        connections were held meanwhile.
    """

    training: int
    prediction: int


@dataclass(frozen=True)
class _Trace:
    """Sizes seen in one pass: of the outputs, of all tensors, and around the largest layer."""

    outputs: dict[str, tuple[int, ...]]
    all_values: int
    largest_layer: int


def count_parameters(network: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def output_shapes(
    network: nn.Module, input_shape: Sequence[int], *, batch_size: int = 1
) -> dict[str, tuple[int, ...]]:
    """Return each head's shape ``(B, channels, [z,] y, x)`` for an input ``(C, [z,] y, x)``."""
    return _trace(network, (batch_size, *input_shape)).outputs


def estimate_memory(
    network: nn.Module, input_shape: Sequence[int], *, batch_size: int = 1
) -> MemoryEstimate:
    """Return what training and prediction need for inputs ``(C, [z,] y, x)``.

    Sizes of layers are read off a pass on torch's device without storage.
    """
    trace = _trace(network, (batch_size, *input_shape))
    weights = sum(weight.numel() for weight in network.parameters())
    return MemoryEstimate(
        training=_FLOAT_BYTES * (_COPIES_IN_TRAINING * weights + trace.all_values),
        prediction=_FLOAT_BYTES * (weights + trace.largest_layer),
    )


def _trace(network: nn.Module, shape: tuple[int, ...]) -> _Trace:
    """Run a copy of the network on a device that has shapes but no values."""
    network = copy.deepcopy(network).to("meta").eval()
    seen: dict[int, Tensor] = {}
    layers: list[int] = []
    skipped: list[int] = []

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # Layers that work in place give back what they got, which counts once. The tensors are
        # kept, so that no two have the same id.
        tensors = {id(tensor): tensor for tensor in _tensors((*inputs, output))}
        seen.update(tensors)
        layers.append(sum(tensor.numel() for tensor in tensors.values()))
        if isinstance(module, (nn.MaxPool2d, nn.MaxPool3d)):
            skipped.append(inputs[0].numel())

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(record)
    with torch.no_grad():
        outputs = network(torch.empty(shape, device="meta"))
    return _Trace(
        {name: tuple(output.shape) for name, output in outputs.items()},
        sum(tensor.numel() for tensor in seen.values()),
        max(layers) + sum(skipped),
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in what a layer takes or gives; a setup's own may give dicts or tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def summary(network: nn.Module, input_shapes: dict[str, Sequence[int]], *, batch_size: int) -> str:
    """Return a text that describes a network.

    Parameters
    ----------
    network : Module
        Gives a dict of tensors by head name.
    input_shapes : dict of str to sequence of int
        Shapes ``(C, [z,] y, x)`` by what they are for; `training` gets an estimate for
        `batch_size` images with gradients, any other one for a single tile.
    batch_size : int
        Images in a training batch.

    Returns
    -------
    str
        Lines with input and output shapes, memory, then layers with their weights.
    """
    lines = [f"parameters: {count_parameters(network):,}"]
    for purpose, shape in input_shapes.items():
        images = batch_size if purpose == "training" else 1
        memory = estimate_memory(network, shape, batch_size=images)
        needed = memory.training if purpose == "training" else memory.prediction
        lines.append(f"{purpose}: input {_text((images, *shape))}, about {needed / _GIB:.2f} GiB")
        lines += [
            f"  output {name}: {_text(output)}"
            for name, output in output_shapes(network, shape, batch_size=images).items()
        ]
    lines += ["", f"{'layer':<40} {'kind':<18} {'weights':>12}  shape of weights"]
    for name, module in network.named_modules():
        weights = list(module.parameters(recurse=False))
        if weights:
            total = sum(math.prod(weight.shape) for weight in weights)
            kind = type(module).__name__
            lines.append(f"{name:<40} {kind:<18} {total:>12,}  {_text(weights[0].shape)}")
    return "\n".join(lines) + "\n"


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
