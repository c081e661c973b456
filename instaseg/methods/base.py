"""The face every method shows to the stages: heads, network, targets, loss, labels.

Adding a method touches its own folder, one line of the table in :mod:`instaseg.methods`, and its
setups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from numpy.typing import NDArray

from instaseg.geometry import Symmetry
from instaseg.settings import Table

if TYPE_CHECKING:
    from torch import Tensor, nn

Activation = Literal["sigmoid", "softmax", "none"]


@dataclass(frozen=True)
class Head:
    """One output array of a network.

    Parameters
    ----------
    name : str
        Name in the network's output and in ``pred_<name>``.
    channels : int
        Length of the channel axis.
    activation : {"sigmoid", "softmax", "none"}
        Applied to the network's output before it is written.
    key : str
        Array of the prediction's zarr, for example ``volumes/pred_affs``.
    """

    name: str
    channels: int
    activation: Activation
    key: str

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return a prediction ``(channels, [z,] y, x)`` of an image as that of the turned image.

        Channels of scalars stay where they are; heads whose channels have a direction override
        this.
        """
        return symmetry.apply(prediction)


class Method(Protocol):
    """What a network predicts and how that becomes instances."""

    heads: tuple[Head, ...]
    """Outputs of the network, in order."""

    context: tuple[int, ...]
    """Voxels of labels needed around a crop, so that its targets equal the whole image's."""

    margin: tuple[int, ...]
    """Voxels the prediction reaches beyond the image on each side (mirrored), so that instances at
    the border are whole."""

    def build_network(self) -> nn.Module:
        """Return the network: ``(B, C, [z,] y, x)`` in, a dict of logits by head name out."""

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return small targets of one crop (labels with context in, arrays without it out)."""

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its named parts; large targets are cut from ``batch["labels"]``."""

    def label(
        self, prediction: Mapping[str, NDArray[Any]], parameters: Sequence[Table]
    ) -> Iterator[NDArray[Any]]:
        """Yield instances of one block for each set of parameters, in their order.

        What parameter sets share is computed once. `prediction` maps head names to arrays
        ``(channels, [z,] y, x)`` as they are stored: float16, or uint8 for ``255 p``; instances are
        ``([z,] y, x)``, or ``(n, [z,] y, x)`` where they may overlap.
        """
