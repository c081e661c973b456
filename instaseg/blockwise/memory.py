"""Blocks worked on in this process, their results in memory: for a volume that is one block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass
class MemoryStore:
    """Results of blocks in memory, with the face of those on disk."""

    kept: dict[tuple[str, str | int], dict[str, NDArray[Any]]] = field(default_factory=dict)

    def has(self, step: str, block: str | int) -> bool:
        """Return whether a block's result is there."""
        return (step, block) in self.kept

    def write(self, step: str, block: str | int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a block's arrays."""
        self.kept[step, block] = dict(arrays)

    def read(
        self, step: str, block: str | int, names: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return a block's arrays by name."""
        arrays = self.kept[step, block]
        return arrays if names is None else {name: arrays[name] for name in names}

    def forget(self, step: str) -> None:
        """Drop the results of a step."""
        for key in [key for key in self.kept if key[0] == step]:
            del self.kept[key]


def run_here(function: Callable[[Any], Any], tasks: Sequence[Any], step: str) -> list[Any]:
    """Run tasks one after the other in this process."""
    del step
    return [function(task) for task in tasks]
