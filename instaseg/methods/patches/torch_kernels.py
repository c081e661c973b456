"""Steps 1 and 2 in torch, for CUDA devices: the same votes and scores as the numba kernels.

A device with a few threads would stream patches through its cache, as the numba kernels do; one
with thousands wants few, large operations. So the volume is cut into boxes, all patches that reach
into a box are laid out as rows (see :mod:`~instaseg.methods.patches.offsets`), and for each voxel
number `k` of a patch one operation serves all voxels of the box::

    consensus   row of p = c + o_k    +=  D(c)[k] * D(c)[k:]     gathered by p
    ranking     score of c            +=  row of c + o_k  .  signs(c)[k:]

Rows are gathered, never scattered, so results do not depend on the order of threads. There is no
volume of pairs: only foreground voxels have rows, in 16 bits, and what is laid out at a time is
bounded by `LAID_OUT_BYTES`. The sums are those of the numba kernels in another order: a consensus
differs by at most one fixed-point unit, a score by less than 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instaseg.methods.patches.consensus import (
    LARGEST,
    Consensus,
    VoteRule,
    check_probabilities,
    row_index,
)
from instaseg.methods.patches.offsets import Window

LAID_OUT_BYTES = 2**29
"""Laid-out patches of one box, about; reading them takes about three times as much for a moment."""

SUMMED_BYTES = 2**28
"""Sums of the voxels that one operation serves, about."""

SPARSE = 0.1
"""Share of centres in a box below which their patches are picked before they go to the device."""

Box = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Begin and end of a box in voxels, ``(3,)`` each; may reach beyond the volume."""


class DeviceConsensus(Consensus):
    """A consensus whose rows are on a device, and come to the CPU when they are asked for.

    Parameters
    ----------
    device_rows : (n + 1, length) int16
        The rows, and one of zeros that stands for voxels without.
    index, scale, window
        As in :class:`~instaseg.methods.patches.consensus.Consensus`.
    """

    device_rows: Tensor

    def __init__(
        self, device_rows: Tensor, index: NDArray[np.int32], scale: float, window: Window
    ) -> None:
        for name, value in (
            ("device_rows", device_rows),
            ("index", index),
            ("scale", scale),
            ("window", window),
        ):
            object.__setattr__(self, name, value)  # as a frozen dataclass does

    @cached_property
    def rows(self) -> NDArray[np.int16]:
        """The rows as an array, copied once (not at all where the device is the CPU)."""
        copied: NDArray[np.int16] = self.device_rows[:-1].cpu().numpy()
        return copied


@dataclass(frozen=True)
class TorchKernels:
    """Consensus and ranking on a torch device, with the face of the numba kernels.

    Parameters
    ----------
    device : torch.device
        Where they run: a CUDA device, or the CPU (slowly, for tests).
    """

    device: torch.device

    def consensus(
        self,
        affinities: NDArray[Any],
        visible: NDArray[np.bool_],
        centres: NDArray[np.bool_],
        *,
        window: Window,
        rule: VoteRule,
        wanted: NDArray[np.bool_] | None = None,
    ) -> DeviceConsensus:
        """Return the consensus of all pairs of visible voxels within a patch's reach.

        Parameters and result are those of :func:`instaseg.methods.patches.consensus.consensus`;
        the rows stay on the device until they are read.
        """
        summed = visible if wanted is None else visible & wanted
        index = row_index(visible, summed)
        shape = (int(np.count_nonzero(summed)) + 1, window.length)
        rows = torch.zeros(shape, dtype=torch.int16, device=self.device)
        scale = rule.unit(window.size)
        bad = 0
        for box in _boxes(summed, centres, window):
            near = _grown(box, window)
            around = _cut(centres, near, False)
            positions = np.argwhere(around) + near[0]
            patches = _read(affinities, index, positions, window=window, kernels=self)
            bad += patches.bad
            laid_out, number = patches.laid_out(window, rule), _numbered(around, self.device)
            voxels = np.argwhere(_cut(summed, box, False)) + box[0]
            at = self.upload(_flat(voxels - near[0], _sides(near)))
            row = self.upload(index[tuple(voxels.T)].astype(np.int64))
            step = _part(window.length, 20)
            for part in (slice(i, i + step) for i in range(0, len(at), step)):
                votes = _votes(laid_out, number, at[part], _steps(window, near))
                rows.index_copy_(0, row[part], _fixed_point(votes, rule, scale))
        check_probabilities(bad)
        return DeviceConsensus(rows, index, scale, window)

    def rank(
        self,
        affinities: NDArray[Any],
        consensus: Consensus,
        centres: NDArray[np.bool_],
        *,
        rule: VoteRule,
        signs: bool,
    ) -> NDArray[np.float32]:
        """Return the score of every patch: how much its pairs agree with the consensus.

        Parameters and result are those of :func:`instaseg.methods.patches.ranking.rank`. A
        consensus of :meth:`consensus` is read where it is, another one is copied to the device.
        """
        window = consensus.window
        rows = self._rows(consensus)
        scores = np.full(centres.shape, -1, dtype=np.float32)
        unit = 1.0 if signs else consensus.scale
        bad = 0
        for box in _boxes(centres, centres, window):
            near = _grown(box, window)
            positions = np.argwhere(_cut(centres, box, False)) + box[0]
            patches = _read(affinities, consensus.index, positions, window=window, kernels=self)
            bad += patches.bad
            laid_out = patches.laid_out(window, rule).sign().to(torch.int8)[:-1]
            cut = _cut(consensus.index, near, -1).reshape(-1).astype(np.int64)
            row = self.upload(np.where(cut < 0, len(rows) - 1, cut))
            at = self.upload(_flat(positions - near[0], _sides(near)))
            step, steps = _part(window.length, 8), _steps(window, near)
            totals = [
                _agreement(laid_out[part], rows, row, at[part], steps, signs)
                for part in (slice(i, i + step) for i in range(0, len(at), step))
            ]
            found = _scores(torch.cat(totals), laid_out, patches.seen, unit)
            scores[tuple(positions.T)] = found.cpu().numpy()
        check_probabilities(bad)
        return scores

    def upload(self, array: NDArray[Any]) -> Tensor:
        """Return an array on the device."""
        plain = np.ascontiguousarray(array)
        return torch.from_numpy(plain if plain.flags.writeable else plain.copy()).to(self.device)

    def _rows(self, consensus: Consensus) -> Tensor:
        if isinstance(consensus, DeviceConsensus) and consensus.device_rows.device == self.device:
            return consensus.device_rows
        nothing = torch.zeros((1, consensus.window.length), dtype=torch.int16, device=self.device)
        return torch.cat([self.upload(consensus.rows), nothing])


def _boxes(wanted: NDArray[np.bool_], centres: NDArray[np.bool_], window: Window) -> Iterator[Box]:
    """Yield disjoint boxes with all wanted voxels, halved until their patches can be laid out."""
    most = LAID_OUT_BYTES // (4 * window.length)
    side = np.array(window.shape)
    waiting: list[Box] = [(np.zeros(3, dtype=np.int64), np.array(wanted.shape, dtype=np.int64))]
    while waiting:
        begin, end = box = waiting.pop()
        if not _cut(wanted, box, False).any():
            continue
        axis = int(np.argmax((end - begin) / side))
        fits = np.count_nonzero(_cut(centres, _grown(box, window), False)) <= most
        if fits or end[axis] - begin[axis] <= side[axis]:
            yield box
            continue
        middle = np.arange(3) == axis
        cut = (begin[axis] + end[axis]) // 2
        waiting.append((np.where(middle, cut, begin), end))
        waiting.append((begin, np.where(middle, cut, end)))


def _grown(box: Box, window: Window) -> Box:
    return box[0] - window.radius, box[1] + window.radius


def _sides(box: Box) -> tuple[int, int, int]:
    z, y, x = (box[1] - box[0]).tolist()
    return z, y, x


def _cut(volume: NDArray[Any], box: Box, outside: int) -> NDArray[Any]:
    """Return a box of a volume, with the value `outside` where it reaches beyond."""
    begin, end = np.maximum(box[0], 0), np.minimum(box[1], volume.shape)
    inner = volume[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))]
    if inner.shape == _sides(box):
        return inner
    return np.pad(inner, np.stack([begin - box[0], box[1] - end], 1), constant_values=outside)


def _flat(voxels: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.int64]:
    """Return flat positions of voxels ``(n, 3)`` in a box of `shape`."""
    return np.asarray(voxels @ np.array([shape[1] * shape[2], shape[2], 1], dtype=np.int64))


def _steps(window: Window, box: Box) -> list[tuple[int, int]]:
    """Return, for each voxel of a patch, its flat number and its flat offset within a box."""
    shifts = _flat(window.offsets(), _sides(box))
    return list(zip(window.flat().tolist(), shifts.tolist(), strict=True))


def _part(length: int, bytes_per_pair: int) -> int:
    """Return how many rows are summed together."""
    return max(1, SUMMED_BYTES // (length * bytes_per_pair))


def _numbered(mask: NDArray[np.bool_], device: torch.device) -> Tensor:
    """Return the number of each voxel of a mask in raster order, flat; elsewhere that of none."""
    number = np.full(mask.size, np.count_nonzero(mask), dtype=np.int64)
    number[mask.reshape(-1)] = np.arange(np.count_nonzero(mask))
    return torch.from_numpy(number).to(device)


@dataclass(frozen=True)
class _Patches:
    """Patches as they were predicted, on the device.

    Parameters
    ----------
    values : (K, m) float32
        Probabilities, one patch per column.
    pairs : (K, m) bool
        Which voxels form pairs.
    """

    values: Tensor
    pairs: Tensor

    @property
    def bad(self) -> int:
        """How many values are no probabilities."""
        return int(((self.values >= 0) & (self.values <= 1)).logical_not().sum())

    @property
    def seen(self) -> Tensor:
        """Voxels of each patch that form pairs, ``(m,)`` int64."""
        return self.pairs.sum(0)

    def laid_out(self, window: Window, rule: VoteRule) -> Tensor:
        """Return the patches as rows ``(m + 1, length)`` float32; the last one is empty.

        ``a`` where a voxel is the patch's own (``a > th``), ``a - 1`` where it is not
        (``a < bg``), 0 in between, for voxels that form no pairs, and between the patch's lines.
        """
        own = self.values > float(np.float32(rule.threshold))
        foreign = self.values < float(np.float32(rule.below))
        signed = torch.where(own, self.values, (self.values - 1) * foreign)
        signed = torch.where(self.pairs, signed, 0.0)
        shape = (self.values.shape[1] + 1, window.length)
        rows = torch.zeros(shape, dtype=torch.float32, device=self.values.device)
        flat = torch.from_numpy(window.flat()).to(self.values.device)
        rows[:-1].index_copy_(1, flat, signed.T)
        return rows


def _read(
    affinities: NDArray[Any],
    index: NDArray[np.int32],
    positions: NDArray[np.int64],
    *,
    window: Window,
    kernels: TorchKernels,
) -> _Patches:
    """Read the patches centred at `positions` ``(m, 3)``, which lie inside the volume."""
    if not len(positions):
        nothing = torch.zeros((window.size, 0), device=kernels.device)
        return _Patches(nothing, nothing > 0)
    box = positions.min(0), positions.max(0) + 1
    if len(positions) < SPARSE * np.prod(box[1] - box[0]):
        values = kernels.upload(affinities[(slice(None), *positions.T)])
    else:
        part = (slice(None), *(slice(b, e) for b, e in zip(*box, strict=True)))
        at = kernels.upload(_flat(positions - box[0], _sides(box)))
        values = kernels.upload(affinities[part]).reshape(window.size, -1)[:, at]
    scale = np.float32(1 / 255) if values.dtype == torch.uint8 else 1
    near = _grown(box, window)
    pairs = kernels.upload(_cut(index, near, -1) >= 0).reshape(-1)
    at = kernels.upload(_flat(positions - near[0], _sides(near)))
    shifts = kernels.upload(_flat(window.offsets(), _sides(near)))
    return _Patches(values.float() * float(scale), pairs[at + shifts[:, None]])


def _votes(
    laid_out: Tensor, number: Tensor, at: Tensor, steps: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the patches around some voxels say of their pairs.

    Parameters
    ----------
    laid_out : (m + 1, length) float32
        Patches; the last one is empty.
    number : (cells,) int64
        Row of the patch centred at each cell of the box.
    at : (v,) int64
        Cells of the voxels.
    steps : sequence of (int, int)
        Flat number and flat offset of each voxel of a patch.

    Returns
    -------
    (v, length) float32, three times
        Sums of products, of votes for less votes against, and of votes.
    """
    products = torch.zeros((len(at), laid_out.shape[1]), device=laid_out.device)
    balance, count = torch.zeros_like(products), torch.zeros_like(products)
    for flat, shift in steps:
        patch = number[at - shift]
        weight = laid_out[:, flat][patch][:, None]
        runs = laid_out[:, flat:].index_select(0, patch)
        # A patch that does not own the first voxel votes on pairs with its own voxels only.
        torch.maximum(runs, torch.where(weight > 0, -1.0, 0.0), out=runs)
        length = runs.shape[1]
        products[:, :length].addcmul_(weight, runs)
        side, runs = weight.sign(), runs.sign_()
        balance[:, :length].addcmul_(side, runs)
        count[:, :length].addcmul_(side.abs_(), runs.abs_())
    return products, balance, count


def _fixed_point(votes: tuple[Tensor, Tensor, Tensor], rule: VoteRule, scale: float) -> Tensor:
    """Return the consensus in units of `scale`, int16; rounded, but never to 0."""
    products, balance, count = votes
    product, constant = rule.weights
    value = products.mul_(product / scale).add_(balance, alpha=constant / scale)
    if rule.consensus == "mean":
        value = value.div_(count.clamp_(min=1))
    size = value.abs().add_(0.5).clamp_(1, LARGEST).trunc_()
    return size.mul_(value.sign_()).to(torch.int16)


def _agreement(
    signs: Tensor,
    rows: Tensor,
    row: Tensor,
    at: Tensor,
    steps: Sequence[tuple[int, int]],
    by_sign: bool,
) -> Tensor:
    """Return, for each patch, the sum of the consensus over its pairs, int64.

    Parameters
    ----------
    signs : (m, length) int8
        Patches: 1 own, -1 not own, 0.
    rows : (n + 1, length) int16
        The consensus.
    row : (cells,) int64
        Row of each cell of the box.
    at : (m,) int64
        Cells of the patches' centres.
    steps : sequence of (int, int)
        Flat number and flat offset of each voxel of a patch.
    by_sign : bool
        Sum signs of the consensus.
    """
    totals = torch.zeros(len(at), dtype=torch.int64, device=signs.device)
    for flat, shift in steps[:-1]:
        first = signs[:, flat]
        counted = torch.where(first > 0, -1, 0).to(torch.int8)[:, None]
        counted = torch.maximum(signs[:, flat + 1 :], counted)
        # The pair of a voxel with itself, number 0, does not count.
        pairs = rows[:, 1 : 1 + counted.shape[1]].index_select(0, row[at + shift])
        pairs = (pairs.sign_() if by_sign else pairs).mul_(counted)
        totals += first * pairs.sum(1, dtype=torch.int64)
    return totals


def _scores(totals: Tensor, signs: Tensor, seen: Tensor, unit: float) -> Tensor:
    """Divide sums by the number of pairs that were visited; float32."""
    own = (signs > 0).sum(1)
    visited = own * (seen - 1) - own * (own - 1) // 2
    return (totals.double() * unit / visited.clamp(min=1)).float()
