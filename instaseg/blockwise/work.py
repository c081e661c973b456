"""How a method labels a volume block by block: what it is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from instaseg.geometry import Coordinate

Run = Callable[[Callable[[Any], Any], Sequence[Any], str], list[Any]]
"""Runs a function on tasks, wherever, under a description; returns the results in order."""


class Store(Protocol):
    """Results of blocks by step; a :class:`~instaseg.blockwise.store.BlockStore` keeps them."""

    def has(self, step: str, block: str | int) -> bool:
        """Return whether a block's result is there."""

    def write(self, step: str, block: str | int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a block's arrays; those kept before are replaced."""

    def read(
        self, step: str, block: str | int, names: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return a block's arrays by name, all or those named."""

    def forget(self, step: str) -> None:
        """Drop the results of a step that nothing needs any more."""


@dataclass(frozen=True)
class BlockWork:
    """What a computation in blocks needs beside its data.

    Parameters
    ----------
    block_shape : tuple of int
        Largest block, in voxels, without what is read around it.
    store : Store
        Keeps the results of blocks; those of an earlier run are used.
    run : callable
        Runs tasks.
    device : {"cpu", "cuda"}
        Where heavy steps run.
    """

    block_shape: Coordinate
    store: Store
    run: Run
    device: Literal["cpu", "cuda"] = "cpu"


class BlockLabels(Protocol):
    """The result of a volume, read part by part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``([z,] y, x)``, or ``(n, [z,] y, x)`` with channels; ``(n, columns)`` of points."""

    def parts(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Yield places and their labels, classes or points; everything else is 0."""
