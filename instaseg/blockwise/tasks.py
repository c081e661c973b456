"""Steps over the blocks of a volume, of which only those without a result are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.work import Run, Store


class BlockJob(Protocol):
    """What every block of a volume needs; at least where it lies, and where results are kept."""

    @property
    def blocks(self) -> BlockGrid:
        """The volume's blocks."""

    @property
    def store(self) -> Store:
        """Where results of blocks are."""


JobT = TypeVar("JobT", bound=BlockJob)
JobT_co = TypeVar("JobT_co", bound=BlockJob, covariant=True)


@dataclass(frozen=True)
class BlockTask(Generic[JobT_co]):
    """One block of a step, for any process.

    Parameters
    ----------
    job : BlockJob
        The volume.
    number : int
        The block.
    """

    job: JobT_co
    number: int

    def __str__(self) -> str:
        return self.job.blocks.describe(self.number)


TaskT = TypeVar("TaskT", bound=BlockTask[Any])


def every_block(job: JobT) -> list[BlockTask[JobT]]:
    """Return a task for each block of a volume."""
    return [BlockTask(job, number) for number in range(len(job.blocks))]


def run_missing(
    run: Run,
    function: Callable[[TaskT], Any],
    tasks: Iterable[TaskT],
    step: str,
    description: str | None = None,
) -> None:
    """Run a function for the blocks that have no result of a step.

    Parameters
    ----------
    run : callable
        Runs a function on tasks.
    function : callable
        Makes the result of a task's block.
    tasks : iterable of BlockTask
        At most one for each block.
    step : str
        Which result.
    description : str, optional
        What is shown of the work; the step where left out.
    """
    missing = [task for task in tasks if not task.job.store.has(step, task.number)]
    if missing:
        run(function, missing, description or step.replace("_", " "))
