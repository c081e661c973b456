"""Which kernels compute consensus and ranking: numba's on the processor, torch's on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instaseg.methods.base import Device
from instaseg.methods.patches.consensus import Consensus, VoteRule, consensus
from instaseg.methods.patches.offsets import Window
from instaseg.methods.patches.ranking import rank


class Kernels(Protocol):
    """Steps 1 and 2 of the assembly."""

    def consensus(
        self,
        affinities: NDArray[Any],
        visible: NDArray[np.bool_],
        centres: NDArray[np.bool_],
        *,
        window: Window,
        rule: VoteRule,
        wanted: NDArray[np.bool_] | None = None,
    ) -> Consensus:
        """As :func:`instaseg.methods.patches.consensus.consensus`."""

    def rank(
        self,
        affinities: NDArray[Any],
        consensus: Consensus,
        centres: NDArray[np.bool_],
        *,
        rule: VoteRule,
        signs: bool,
    ) -> NDArray[np.float32]:
        """As :func:`instaseg.methods.patches.ranking.rank`."""


@dataclass(frozen=True)
class _NumbaKernels:
    consensus = staticmethod(consensus)
    rank = staticmethod(rank)


def choose_kernels(device: Device) -> Kernels:
    """Return the kernels for a device; torch is loaded only for ``"cuda"``.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        ``"cuda"`` is the process's current CUDA device.
    """
    if device == "cpu":
        return _NumbaKernels()
    import torch

    from instaseg.methods.patches.torch_kernels import TorchKernels

    return TorchKernels(torch.device(device, torch.cuda.current_device()))
