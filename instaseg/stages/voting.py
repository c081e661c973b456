"""Classes of instances from files: what votes, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import StageError
from instaseg.geometry import Box, Coordinate, box_of
from instaseg.io.arrays import ArraySource, Reader, open_array
from instaseg.io.resampled import ResampledReader
from instaseg.io.samples import Sample, read_whole
from instaseg.methods.base import Head, Method
from instaseg.methods.instance_classes import CLASS_HEAD
from instaseg.metrics.instance_classes import ClassOf
from instaseg.postprocess.votes import (
    Ballot,
    Votes,
    class_ballot,
    votes_of_classes,
    votes_of_probabilities,
)
from instaseg.stages.stored import image_shape


def classes_key(key: str) -> str:
    """Return the array with the votes of the instances in another one."""
    return f"{key}_classes"


class WithoutMargin:
    """A stored head ``(channels, [z,] y, x)`` without what was predicted around the image."""

    def __init__(self, stored: Reader, margin: Sequence[int]) -> None:
        self._stored = stored
        self._margin = tuple(margin)
        space = zip(stored.shape[1:], self._margin, strict=True)
        self.shape: tuple[int, ...] = (stored.shape[0], *(n - 2 * m for n, m in space))
        self.dtype: np.dtype[Any] = stored.dtype
        self.chunks: tuple[int, ...] | None = None
        self.attributes = stored.attributes

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        box = box_of(index[1:], self.shape[1:]).shift(self._margin)
        return self._stored[(index[0], *box.slices)]


def class_head(method: Method) -> Head:
    """Return the head that tells the classes of instances."""
    return next(head for head in method.heads if head.name == CLASS_HEAD)


def predicted_votes(prediction: Path, method: Method) -> Votes:
    """Return what gives the votes of a stored prediction, at the size of the image."""
    head = class_head(method)
    reader: Reader = WithoutMargin(open_array(prediction, head.key), method.margin)
    shape = image_shape(prediction, [head])
    if shape is not None:
        reader = ResampledReader(reader, shape, "linear")

    def votes(box: Box) -> NDArray[np.int64]:
        return votes_of_probabilities(reader[(slice(0, head.channels), *box.slices)])

    return votes


def true_classes(
    sample: Sample, truth: ArraySource, count: int, block_shape: Coordinate
) -> ClassOf:
    """Return the class that most voxels of each true instance have.

    Raises
    ------
    StageError
        If the sample has no classes.
    """
    classes = sample.open_classes()
    if classes is None:
        raise StageError(
            f"sample {sample.name}: expected classes of its instances beside {sample.raw}"
            " (data.class_key, data.label_channels), found none; add them, or name other samples"
            " with --sample"
        )
    read = classes

    def votes(box: Box) -> NDArray[np.int64]:
        return votes_of_classes(read[box.slices], count)

    ballot = class_ballot(truth, votes, ndim=sample.ndim, count=count, block_shape=block_shape)
    return class_of(ballot)


def class_of(ballot: Ballot) -> ClassOf:
    """Return the class of each instance by channel and label."""
    names = zip(ballot.channel.tolist(), ballot.label.tolist(), strict=True)
    return dict(zip(names, ballot.classes.tolist(), strict=True))


def read_ballot(path: Path, key: str) -> Ballot:
    """Return the votes of the instances in an array, as the stage `classify` stores them."""
    return Ballot.from_table(read_whole(open_array(path, classes_key(key))))
