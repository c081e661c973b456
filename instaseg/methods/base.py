"""The face every method shows to the stages: heads, network, targets, loss, labels.

Adding a method touches its own folder, one line of the table in :mod:`instaseg.methods`, and its
setups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Symmetry
from instaseg.settings import Table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from instaseg.blockwise.work import BlockLabels, BlockWork
    from instaseg.data.classes import ClassMap
    from instaseg.data.config import Beyond
    from instaseg.models.config import CodeSettings

Activation = Literal["sigmoid", "softmax", "none"]

Result = Literal["instances", "classes", "points"]
"""What ``label`` gives: instances, one class per voxel, or a table of points."""

Device = Literal["cpu", "cuda"]
"""Where heavy steps run; ``"cuda"`` is the process's current CUDA device."""

Decode = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Codes ``(units, n)`` as they are stored to what they mean, ``(K, n)``."""


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

    @property
    def is_vector(self) -> bool:
        """Whether the channels are parts of vectors, of which only a mean makes sense."""
        return False

    def turn(self, prediction: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
        """Return a prediction ``(channels, [z,] y, x)`` of an image as that of the turned image.

        Channels of scalars stay where they are; heads whose channels have a direction override
        this.
        """
        return symmetry.apply(prediction)


class Coding(Protocol):
    """What a method with codes has beside its network."""

    settings: CodeSettings
    """Table ``[method.code]``."""

    decoded: Head
    """What codes are decoded to."""

    decodes_in: Literal["stage", "label"]
    """Where codes are decoded: in the stage ``decode``, or in ``label``."""

    @property
    def architecture(self) -> Mapping[str, Any]:
        """What makes the decoder's weights unfit for another one, as plain values."""

    def decoder(self) -> nn.Module:
        """Return a fresh decoder: codes ``(n, units)`` in, logits ``(n, K)`` out."""

    def autoencoder(self) -> nn.Module:
        """Return a fresh network: patches in, a dict of logits out; has a ``decoder``."""

    def patches(self, batch: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Return a batch of true patches, as ``raw``, of a batch of crops."""

    def autoencoder_loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the autoencoder's loss and its named parts."""

    def decode(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[Any],
        decode: Decode,
    ) -> NDArray[Any]:
        """Return what the codes in a part of a prediction mean, as the head `decoded` stores it.

        `prediction` and `parameters` are those of :meth:`Method.label`.
        """


class Method(Protocol):
    """What a network predicts and how that becomes instances, classes or points."""

    result: Result
    """What :meth:`label` gives."""

    class_map: ClassMap | None
    """What the values of the ground truth mean, where they are classes; None for instances."""

    heads: tuple[Head, ...]
    """Outputs of the network, in order."""

    context: tuple[int, ...]
    """Voxels of labels needed around a crop, so that its targets equal the whole image's."""

    margin: tuple[int, ...]
    """Voxels the prediction reaches beyond the image on each side (mirrored), so that instances at
    the border are whole."""

    labels_beyond: Beyond
    """How labels go on beyond the image, where a crop's context leaves it: mirrored like the image,
    for patches that reach there; or -1, for targets that are made of what the image shows."""

    overlapping: bool
    """Whether instances may overlap."""

    labels_may_overlap: bool
    """Whether it can be trained with instances that overlap, even if it gives none."""

    instance_classes: int
    """Classes of instances that a head of their own tells, background not counted; 0 for none."""

    coding: Coding | None
    """What decodes the first head's codes; None for methods without codes."""

    @property
    def labelled_heads(self) -> tuple[Head, ...]:
        """The heads that ``label`` reads from disk."""

    def build_network(self) -> nn.Module:
        """Return the network: ``(B, C, [z,] y, x)`` in, a dict of logits by head name out.

        It takes the positions of :meth:`sites` as a second argument and may then give other
        outputs, which the loss knows.
        """

    def targets(self, labels: NDArray[Any], spacing: Sequence[float]) -> dict[str, NDArray[Any]]:
        """Return small targets of one crop (labels with context in, arrays without it out)."""

    def sites(self, batch: Mapping[str, Tensor], seed: int) -> Tensor | None:
        """Return the voxels of a training batch where large heads are evaluated, None for all.

        Parameters
        ----------
        batch : mapping of str to Tensor
            On the CPU: ``labels`` ``(B, L, [z,] y, x)`` with context, ``mask`` ``(B, [z,] y, x)``.
        seed : int
            Of what is drawn at random.

        Returns
        -------
        Tensor or None
            ``(N,)`` int64 positions in the raveled ``(B, [z,] y, x)`` of the mask; the batch that
            the loss gets has them as ``sites``.
        """

    def loss(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its named parts; large targets are cut from ``batch["labels"]``."""

    def label(
        self,
        prediction: Mapping[str, NDArray[Any]],
        parameters: Sequence[Table],
        *,
        decode: Decode | None = None,
        device: Device = "cpu",
    ) -> Iterator[NDArray[Any]]:
        """Yield the instances of an image for each set of parameters, in their order.

        What parameter sets share is computed once. `prediction` maps head names to arrays
        ``(channels, [z,] y, x)`` as they are stored: float16, or uint8 for ``255 p``; codes are
        decoded with `decode`. Instances are ``([z,] y, x)``, or ``(n, [z,] y, x)`` where they may
        overlap.
        """

    def block_shape(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Return a block of a prediction of `shape` that fits in memory; None if all of it does."""

    def label_blocks(
        self, path: Path, parameters: Table, work: BlockWork, *, decode: Decode | None = None
    ) -> BlockLabels:
        """Label a stored prediction block by block, with the partition that :meth:`label` gives."""

    @property
    def quality_names(self) -> tuple[str, ...]:
        """Dotted names of the scores :meth:`prediction_quality` can give, best when highest."""

    def prediction_quality(
        self,
        prediction: Mapping[str, NDArray[Any]],
        truth: NDArray[Any],
        mask: NDArray[Any] | None,
        *,
        decode: Decode | None = None,
    ) -> dict[str, float]:
        """Return how well a prediction itself agrees with the ground truth, by dotted name.

        Parameters
        ----------
        prediction : mapping of str to ndarray
            As for :meth:`label`.
        truth : ndarray, ([z,] y, x) or (n, [z,] y, x)
            Labels or instance channels.
        mask : ndarray, ([z,] y, x), optional
            Not 0 where labels are complete.
        decode : callable, optional
            For methods with codes: codes ``(units, n)`` as stored to probabilities ``(K, n)``.

        Returns
        -------
        dict
            A name that has no value in this sample is left out.
        """


@runtime_checkable
class ShowsSteps(Protocol):
    """What a method has beside its face if it can show what its results are made from."""

    def check_arrays(
        self, prediction: Mapping[str, NDArray[Any]], parameters: Table
    ) -> dict[str, NDArray[Any]]:
        """Return arrays ``([z,] y, x)`` to look at, by name; none unless parameters ask for them.

        `prediction` is that of :meth:`Method.label`.
        """


@runtime_checkable
class LabelsSomeInBlocks(Protocol):
    """What a method has beside its face if not all parameters can be used in blocks."""

    def check_blocks(self, parameters: Table) -> None:
        """Check that a stored prediction can be labelled block by block with these parameters.

        Raises
        ------
        ConfigError
            If they need the whole.
        """
