"""Arrays of samples that are made part by part, wherever the parts are made.

All parts of all samples are one list of tasks, so that many small samples keep the workers as busy
as a large one. What is finished of a sample is noted in this process, and its arrays appear when
its last part is done::

    sample a   part 0 ─┐                    journal of a: 0 2 ...
               part 1 ─┤
    sample b   part 0 ─┼► pool ► finished   journal of b: 0 ► arrays of b
    ...               ─┘
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from instaseg.blockwise.scheduler import Pool
from instaseg.io.arrays import ArrayPlan, ArrayWriter, resumed_arrays

logger = logging.getLogger(__name__)

WorkT = TypeVar("WorkT")


@dataclass(frozen=True)
class Parted(Generic[WorkT]):
    """A sample whose arrays are made in parts.

    Parameters
    ----------
    name : str
        Of the sample, for messages.
    path : Path
        Zarr folder of the arrays.
    plans : tuple of ArrayPlan
        The arrays; parts write whole chunks of them.
    made_from : str
        Fingerprint of all that the parts depend on, how they are cut and numbered included.
    parts : int
        How many there are.
    work : object
        What every part needs; picklable.
    """

    name: str
    path: Path
    plans: tuple[ArrayPlan, ...]
    made_from: str
    parts: int
    work: WorkT


@dataclass(frozen=True)
class PartTask(Generic[WorkT]):
    """One part.

    Parameters
    ----------
    sample : str
        Name of the sample.
    index : int
        Number of the sample.
    number : int
        Number of the part.
    work : object
        What every part of the sample needs.
    writers : tuple of ArrayWriter
        The arrays.
    """

    sample: str
    index: int
    number: int
    work: WorkT
    writers: tuple[ArrayWriter, ...]

    def __str__(self) -> str:
        return f"sample {self.sample}, part {self.number}"


def make_parts(
    pool: Pool,
    samples: Sequence[Parted[WorkT]],
    function: Callable[[PartTask[WorkT]], None],
    *,
    description: str,
) -> None:
    """Make the arrays of samples, going on where a run before stopped.

    Parameters
    ----------
    pool : Pool
        Where parts are made.
    samples : sequence of Parted
        What is made.
    function : callable
        Makes a part and writes it; it may be asked for the same part twice.
    description : str
        For messages.

    Raises
    ------
    StageError
        If parts failed; all others are finished and kept.
    DataError
        If a folder cannot be written.
    """
    with ExitStack() as unfinished:
        opened = [_Opened(sample, index, unfinished) for index, sample in enumerate(samples)]
        for one in opened:
            if one.done:
                logger.info(
                    "%s: sample %s goes on after %d of %d parts",
                    description,
                    one.sample.name,
                    one.done,
                    one.sample.parts,
                )
        tasks = [task for one in opened for task in one.missing()]
        pool.run(
            function,
            tasks,
            description=description,
            finished=lambda task: opened[task.index].finish(task.number),
        )


class _Opened(Generic[WorkT]):
    """A sample whose arrays are being made; closed when its last part is done."""

    def __init__(self, sample: Parted[WorkT], index: int, unfinished: ExitStack) -> None:
        self.sample = sample
        self._index = index
        self._stack = ExitStack()
        unfinished.push(self._stack)
        opened = resumed_arrays(sample.path, sample.plans, sample.made_from)
        writers, journal = self._stack.enter_context(opened)
        self._writers, self._journal = tuple(writers), journal
        self.done = len(journal)
        self._close_if_complete()

    def missing(self) -> list[PartTask[WorkT]]:
        """Return the parts that are not made yet."""
        return [
            PartTask(self.sample.name, self._index, number, self.sample.work, self._writers)
            for number in range(self.sample.parts)
            if number not in self._journal
        ]

    def finish(self, number: int) -> None:
        """Note that a part is made."""
        self._journal.update([number])
        self._close_if_complete()

    def _close_if_complete(self) -> None:
        if len(self._journal) == self.sample.parts:
            self._stack.close()
