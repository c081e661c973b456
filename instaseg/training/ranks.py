"""Several processes that train one network, started by ``torchrun``.

Each process has a rank. All hold the same weights, draw different crops and average their
gradients; the one of rank 0 alone writes files. One process is the same with nothing to exchange,
so that the loop asks nowhere how many there are.

Gradients are averaged in one piece after the backward pass, not by torch's
``DistributedDataParallel``: that one must wrap a ``forward`` which uses all weights, and here a
loss may use some (a decoder's) outside of it, or none of them where a crop has no foreground.

Loads torch only where there are several processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from instaseg.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, for example while the first one validates."""


class PeerError(StageError):
    """Another process of the same training tells what went wrong, or told it before it ended."""


@dataclass(frozen=True)
class Ranks:
    """The processes that work together.

    Parameters
    ----------
    rank : int
        Number of this one, from 0.
    size : int
        How many there are.
    local : int
        Number among those on this machine: the CUDA device it uses.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.size}"

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; same shapes and order in each."""
        if self.alone or not tensors:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _told():
            distributed.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def largest(self, number: float) -> float:
        """Return the largest of the numbers that the processes give."""
        if self.alone:
            return number
        import torch
        from torch import distributed

        shared = torch.tensor(number, dtype=torch.float64)
        with _told():
            distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return float(shared)

    def any(self, condition: bool) -> bool:
        """Return whether the condition holds in any process."""
        return self.largest(float(condition)) > 0

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.alone:
            return
        from torch import distributed

        with _told():
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def from_first(self, value: T) -> T:
        """Return what the first process gives."""
        return self.gather(value)[0]

    def gather(self, value: T) -> list[T]:
        """Return what each process gives, by rank."""
        if self.alone:
            return [value]
        from torch import distributed

        values: list[T | None] = [None] * self.size
        with _told():
            distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # all are filled

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)


ALONE = Ranks()
"""One process."""


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line that another process has gone."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError(
            "another process of this training has ended or cannot be reached: its own message"
            f" says why ({str(error).splitlines()[0]}); then run the same command again"
        ) from error


@contextmanager
def joined() -> Iterator[Ranks]:
    """Meet the other processes that torchrun has started, if it has; leave them after the block."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names) or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    import torch
    from torch import distributed

    cuda = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    yield Ranks(*(int(os.environ[name]) for name in names))
    # Not after an error: the others may wait for something else, and the system cleans up.
    distributed.destroy_process_group()
