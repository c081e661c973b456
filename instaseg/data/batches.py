"""Batches for training and for the validation loss, from torch's worker processes.

Batch ``i`` depends on the run's seed and ``i`` alone: it is the same for any number of workers,
and after a restart. Each worker has a gunpowder pipeline of its own.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from instaseg.data.classes import ClassMap
from instaseg.data.config import (
    AugmentationSettings,
    Beyond,
    NormalizationSettings,
    SamplingSettings,
)
from instaseg.data.crops import CropImage, open_crop_image
from instaseg.data.normalization import Statistics, for_sample
from instaseg.errors import DataError
from instaseg.geometry import Box
from instaseg.io.samples import Sample

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from instaseg.data.pipeline import Crop, CropPipeline

Targets = Callable[[NDArray[Any], Sequence[float]], Mapping[str, NDArray[Any]]]
"""A function of layers of labels ``(L, [z,] y, x)`` with context and of the voxel size: arrays
without context, by name."""

MEMORY_LIMIT = 2**30
"""Bytes of samples a worker holds in memory; larger data sets are read from disk crop by crop."""

_VALIDATION = 1


@dataclass(frozen=True)
class CropSpec:
    """Shapes of one crop, in voxels per axis.

    The three boxes share their centre::

        |<------------------- input_shape ------------------->|
              | context |<---- output_shape ---->| context |

    Parameters
    ----------
    input_shape : tuple of int
        What the network reads.
    output_shape : tuple of int
        What it predicts; equal to `input_shape` with same padding, smaller with valid padding.
    context : tuple of int
        Labels around the output that targets need.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    context: tuple[int, ...]

    def boxes(self) -> dict[str, Box]:
        """Return the boxes of ``raw``, ``labels`` and ``mask``, the first beginning at 0."""
        margin = tuple(
            (i - o) // 2 for i, o in zip(self.input_shape, self.output_shape, strict=True)
        )
        output = Box(margin, tuple(m + o for m, o in zip(margin, self.output_shape, strict=True)))
        return {
            "raw": Box((0,) * len(self.input_shape), self.input_shape),
            "labels": output.grow(self.context),
            "mask": output,
        }


@dataclass(frozen=True)
class CropSource:
    """What crops are cut from, and what comes with them.

    Parameters
    ----------
    samples : tuple of Sample
        With labels; checked by :func:`instaseg.data.check.check_samples`.
    crop : CropSpec
        Shapes.
    sampling : SamplingSettings
        Where crops are taken.
    normalization : NormalizationSettings
        Kind and scope.
    statistics : Statistics
        From :func:`instaseg.data.normalization.fit`, or from the checkpoint.
    targets : callable, optional
        Computes small targets in the worker; must be picklable.
    class_map : ClassMap, optional
        What labels mean where they are classes; then ``labels`` of a batch are classes, -1 where
        there is none.
    beyond : {"mirrored", "unknown"}
        What labels of instances are beyond the image.
    instance_classes : int
        Classes of instances that are learnt; 0 for none.
    """

    samples: tuple[Sample, ...]
    crop: CropSpec
    sampling: SamplingSettings
    normalization: NormalizationSettings
    statistics: Statistics
    targets: Targets | None = None
    class_map: ClassMap | None = None
    beyond: Beyond = "mirrored"
    instance_classes: int = 0


def training_batches(
    source: CropSource,
    *,
    augmentation: AugmentationSettings,
    batch_size: int,
    num_workers: int,
    seed: int,
    first_iteration: int = 0,
    first_element: int = 0,
) -> Generator[dict[str, Tensor], None, None]:
    """Yield training batches without end, from iteration `first_iteration` on.

    Close the generator to end its worker processes.

    Parameters
    ----------
    source : CropSource
        Samples and shapes.
    augmentation : AugmentationSettings
        How crops are changed.
    batch_size : int
        Crops per batch.
    num_workers : int
        Processes that make batches ahead; 0 makes them in this process.
    seed : int
        Seed of the run, not negative.
    first_iteration : int
        Where to start; a run that goes on after N iterations passes N.
    first_element : int
        Number of the first crop in each batch. Processes that train together share one large
        batch: of N crops each, that of rank r draws those from ``r * N`` on.

    Yields
    ------
    dict of Tensor
        ``raw`` (B, C, *input_shape) float32, ``labels`` (B, L, *output_shape + 2 * context) int32,
        ``mask`` (B, *output_shape) bool, True where labels are complete, the targets (B, ...), and
        ``instance_classes`` (B, *output_shape) uint8 where these are learnt. Labels are in L layers
        in none of which instances overlap; L is one for labels that do not overlap, and the same
        for all batches. Ids are unique within a crop only, over
        all its layers.

    Raises
    ------
    DataError
        If a sample cannot be read.
    """
    elements = range(first_element, first_element + batch_size)
    dataset = _Batches(source, augmentation, elements, (seed,))
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=None,
        sampler=_Iterations(first_iteration),
        num_workers=num_workers,
        # Arrays travel as they are, through a pipe. Tensors would go through shared memory, which
        # containers keep small, and a worker that ends while it sends one aborts.
        collate_fn=_unchanged,
        # Not fork: it copies the threads' locks, and a CUDA context does not survive it.
        multiprocessing_context="spawn" if num_workers else None,
        worker_init_fn=_follow_main_process if num_workers else None,
        # Without one, torch draws a base seed from its global generator.
        generator=torch.Generator().manual_seed(0),
    )
    resource_tracker.ensure_running()  # its own start would let signals in again
    with _interrupts_held_back():
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, _Failure):
            raise DataError(batch.message)
        yield _tensors(batch)


def validation_batches(
    source: CropSource, *, batch_size: int, count: int, seed: int
) -> list[dict[str, Tensor]]:
    """Return a fixed set of `count` crops without augmentation, in batches, for a validation loss.

    Crops are drawn as in training, in this process; the same arguments give the same crops. The
    last batch may be smaller. See :func:`training_batches` for contents and errors.
    """
    dataset = _Batches(source, None, range(batch_size), (seed, _VALIDATION))
    batches: list[dict[str, Tensor]] = []
    for index in range(math.ceil(count / batch_size)):
        batch = dataset[index]
        if isinstance(batch, _Failure):
            raise DataError(batch.message)
        left = count - index * batch_size
        batches.append(_tensors({name: values[:left] for name, values in batch.items()}))
    return batches


def crop_seed(run_seed: Sequence[int], iteration: int, element: int) -> int:
    """Return the 32-bit seed of one crop, unrelated to those of other crops."""
    state = np.random.SeedSequence([*run_seed, iteration, element]).generate_state(1)
    return int(state[0])


def _unchanged(batch: Any) -> Any:
    """Return the batch; a function with a name, so that a worker can be sent it."""
    return batch


def _tensors(batch: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Return the arrays of a batch as tensors that share their memory."""
    return {name: torch.from_numpy(values) for name, values in batch.items()}


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Deliver Ctrl-C after the block; processes started inside never get it.

    A terminal sends it to all of them, and one that is still loading its modules would show where.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _follow_main_process(worker: int) -> None:  # noqa: ARG001
    """Leave Ctrl-C to the main process, which ends the workers; end when it was killed.

    Torch's own check is not enough: a batch that nobody reads keeps the worker waiting for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    if main is not None:
        threading.Thread(target=_end_with, args=(main,), daemon=True).start()


def _end_with(process: BaseProcess) -> None:
    """End this process, whatever it waits for, as soon as another one has ended."""
    process.join()
    os._exit(1)


@dataclass(frozen=True)
class _Failure:
    """An error of a worker, passed on as a value: torch would wrap it in its traceback."""

    message: str


class _Iterations(Sampler[int]):
    """The numbers of iterations, without end."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._first)


class _Batches(Dataset[Any]):
    """Batches by number of iteration; the pipeline is built where the first one is made."""

    def __init__(
        self,
        source: CropSource,
        augmentation: AugmentationSettings | None,
        elements: range,
        seed: tuple[int, ...],
    ) -> None:
        self._source = source
        self._augmentation = augmentation
        self._elements = elements
        self._seed = seed
        self._pipeline: CropPipeline | None = None

    def __getitem__(self, iteration: int) -> dict[str, NDArray[Any]] | _Failure:
        try:
            if self._pipeline is None:
                self._pipeline = self._build()
            crops = [
                self._pipeline.draw(crop_seed(self._seed, iteration, element))
                for element in self._elements
            ]
        except DataError as error:
            return _Failure(str(error))
        return self._collate(crops)

    def _build(self) -> CropPipeline:
        # gunpowder takes seconds to import: only where crops are made.
        from instaseg.data.pipeline import CropPipeline

        source = self._source
        return CropPipeline(
            open_images(source), source.crop.boxes(), source.sampling, self._augmentation
        )

    def _collate(self, crops: Sequence[Crop]) -> dict[str, NDArray[Any]]:
        """Return a batch of arrays, with targets."""
        batch: dict[str, NDArray[Any]] = {
            "raw": np.stack([crop.raw for crop in crops]),
            "labels": np.stack([crop.labels for crop in crops]),
            "mask": np.stack([crop.mask != 0 for crop in crops]),
        }
        if self._source.instance_classes:
            batch["instance_classes"] = np.stack([crop.classes for crop in crops])
        if self._source.targets is None:
            return batch
        targets = [self._source.targets(crop.labels, crop.resolution) for crop in crops]
        return batch | {name: np.stack([t[name] for t in targets]) for name in targets[0]}


def open_images(source: CropSource) -> list[CropImage]:
    """Return the samples, all with as many layers, in memory if all of them fit."""
    images = [
        open_crop_image(
            sample,
            for_sample(sample, source.normalization, source.statistics),
            source.class_map,
            beyond=source.beyond,
            instance_classes=source.instance_classes,
        )
        for sample in source.samples
    ]
    num_layers = max(image.num_layers for image in images)
    images = [replace(image, num_layers=num_layers) for image in images]
    if sum(image.nbytes for image in images) > MEMORY_LIMIT:
        return images
    return [image.in_memory() for image in images]
