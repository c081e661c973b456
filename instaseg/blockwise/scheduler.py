"""Independent tasks: in this process, on a local dask cluster, or on one by address."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from instaseg.errors import ConfigError, InstasegError, StageError
from instaseg.progress import progress

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Result = TypeVar("Result")

SECONDS_TO_CONNECT = 10
"""How long the scheduler of an address is given to answer."""


@dataclass(frozen=True)
class Workers:
    """Where tasks run.

    Parameters
    ----------
    count : int
        Processes of a local cluster; 1 means this process and no cluster.
    scheduler : str, optional
        Address of a dask scheduler (``tcp://host:port``) to use instead.
    """

    count: int = 1
    scheduler: str | None = None


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: Workers,
    description: str,
) -> list[Result]:
    """Return ``[function(task) for task in tasks]``, wherever they run.

    A task that fails does not stop the others; all failures are reported at the end.

    Parameters
    ----------
    function : callable
        Defined at the top of a module, so that other processes find it.
    tasks : sequence
        Picklable arguments; ``str(task)`` names a task in an error.
    workers : Workers
        Where they run.
    description : str
        Text of the progress bar, and of the error.

    Raises
    ------
    StageError
        If tasks failed; one line for each.
    """
    if workers.scheduler is None and (workers.count == 1 or len(tasks) < 2):
        outcomes = (_attempt(function, task) for task in tasks)
        done = list(progress(outcomes, description, total=len(tasks)))
    elif tasks:
        done = _on_cluster(function, tasks, workers, description)
    else:
        done = []
    failures = [outcome.failure for outcome in done if isinstance(outcome, _Failed)]
    if failures:
        raise StageError(
            f"{description}: {len(failures)} of {len(tasks)} failed, the others are finished:\n"
            + "\n".join(f"  - {failure}" for failure in failures)
        )
    return [outcome for outcome in done if not isinstance(outcome, _Failed)]


@dataclass(frozen=True)
class _Failed:
    failure: str


def _attempt(function: Callable[[Task], Result], task: Task) -> Result | _Failed:
    try:
        return function(task)
    except (InstasegError, OSError, MemoryError) as error:
        return _Failed(f"{task}: {error or type(error).__name__}")


def _on_cluster(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: Workers, description: str
) -> list[Result | _Failed]:
    from distributed import as_completed

    with connect(workers) as client:
        futures = [client.submit(_attempt, function, task, pure=False) for task in tasks]
        order = {future.key: i for i, future in enumerate(futures)}
        outcomes: dict[int, Result | _Failed] = {}
        for future in progress(as_completed(futures), description, total=len(tasks)):
            i = order[future.key]
            error = future.exception()
            outcomes[i] = _Failed(f"{tasks[i]}: {error}") if error else future.result()
    return [outcomes[i] for i in range(len(tasks))]


def check_scheduler(workers: Workers) -> None:
    """Check that the scheduler answers, where one is named.

    Raises
    ------
    ConfigError
        If no scheduler answers at the address.
    """
    if workers.scheduler is not None:
        with connect(workers):
            pass


@contextmanager
def connect(workers: Workers) -> Iterator[Client]:
    """Give a dask client: of the scheduler at the address, or of a local cluster.

    Raises
    ------
    ConfigError
        If no scheduler answers at the address.
    """
    from distributed import Client, LocalCluster

    if workers.scheduler is not None:
        try:
            client = Client(workers.scheduler, timeout=SECONDS_TO_CONNECT)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--scheduler {workers.scheduler}: no dask scheduler answers there ({error});"
                " start one with `dask scheduler`, or leave out --scheduler to work on this machine"
            ) from error
        with client:
            yield client
    else:
        with (
            _environment_kept(),
            LocalCluster(
                n_workers=workers.count, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back what a cluster leaves in the environment: one thread for all that is loaded later.

    Networks would train on one core then, and sums in another order.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
