"""Independent tasks: in this process, on a local dask cluster, or on one by address."""

from __future__ import annotations

import itertools
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from instaseg.errors import ConfigError, InstasegError, StageError
from instaseg.progress import progress

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

SECONDS_TO_CONNECT = 10
"""How long the scheduler of an address is given to answer."""

UNDER_WAY_PER_THREAD = 4
"""Tasks that a cluster holds for each of its threads, so that none waits for the next task."""

LEAST_UNDER_WAY = 32
"""Tasks that a cluster holds at least; workers may join while they are done."""


ONE_THREAD = {"NUMBA_NUM_THREADS": "1"}
"""Environment of a process of a local cluster. Dask itself tells OpenMP and the like, not numba."""


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

    @property
    def here(self) -> bool:
        """Whether tasks run in this process."""
        return self.scheduler is None and self.count == 1


@dataclass(frozen=True)
class _Failed:
    """What went wrong with a task: for the user, and for the log."""

    failure: str
    details: str = ""


class Pool:
    """A place where tasks run, used again and again: one cluster serves all calls of :meth:`run`.

    The cluster is started, or the scheduler asked, when tasks need it first; leaving the ``with``
    block stops it. Tasks must be such that they can be done twice: those of a worker that is lost
    are done again by another.

    Parameters
    ----------
    workers : Workers
        Where tasks run.

    Examples
    --------
    >>> with Pool(Workers()) as pool:
    ...     pool.run(abs, [-1, 2], description="absolute values")
    [1, 2]
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._client = None
        self._stack.close()

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        *,
        description: str,
        finished: Callable[[Task], None] | None = None,
    ) -> list[Result]:
        """Return ``[function(task) for task in tasks]``; see :func:`run_tasks`.

        `finished` is called in this process for each task that did not fail, as soon as it is done.
        """
        here = self._workers.here or (len(tasks) < 2 and self._workers.scheduler is None)
        attempts: Iterator[tuple[int, Result | _Failed]]
        if here or not tasks:
            attempts = ((number, _attempt(function, task)) for number, task in enumerate(tasks))
        else:
            if self._client is None:
                self._client = self._stack.enter_context(connect(self._workers))
            attempts = _on_cluster(self._client, function, tasks, description)
        found: dict[int, Result | _Failed] = {}
        for number, outcome in progress(attempts, description, total=len(tasks)):
            found[number] = outcome
            if finished is not None and not isinstance(outcome, _Failed):
                finished(tasks[number])
        outcomes = [found[number] for number in range(len(tasks))]
        failed = [outcome for outcome in outcomes if isinstance(outcome, _Failed)]
        if failed:
            for outcome in failed:
                logger.debug("%s: %s\n%s", description, outcome.failure, outcome.details)
            raise StageError(
                f"{description}: {len(failed)} of {len(tasks)} failed, the others are finished:\n"
                + "\n".join(f"  - {outcome.failure}" for outcome in failed)
            )
        return [outcome for outcome in outcomes if not isinstance(outcome, _Failed)]


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: Workers,
    description: str,
) -> list[Result]:
    """Return ``[function(task) for task in tasks]``, wherever they run.

    A task that fails does not stop the others; all failures are reported at the end. A task whose
    worker is lost is done again by another one.

    Parameters
    ----------
    function : callable
        Defined at the top of a module, so that other processes find it.
    tasks : sequence
        Picklable arguments; ``str(task)`` names a task in an error. Not all are under way at the
        same time, so there may be many; results should be small.
    workers : Workers
        Where they run. Use a :class:`Pool` where several lists of tasks follow each other.
    description : str
        Text of the progress bar, and of the error.

    Raises
    ------
    StageError
        If tasks failed; one line for each.
    """
    with Pool(workers) as pool:
        return pool.run(function, tasks, description=description)


def _attempt(function: Callable[[Task], Result], task: Task) -> Result | _Failed:
    try:
        return function(task)
    except (InstasegError, OSError, MemoryError) as error:
        return _Failed(f"{task}: {error or type(error).__name__}", traceback.format_exc())
    except Exception as error:
        text = f"{task}: unexpected {type(error).__name__}: {error}; a defect of instaseg"
        return _Failed(text, traceback.format_exc())


def _on_cluster(
    client: Client, function: Callable[[Task], Result], tasks: Sequence[Task], description: str
) -> Iterator[tuple[int, Result | _Failed]]:
    """Run tasks on a cluster: a few for every thread are under way, the others wait here.

    Yields the number of each task and what came of it, as they end.
    """
    from distributed import as_completed

    threads = sum(client.nthreads().values())
    if threads == 0:
        logger.warning("%s: the scheduler has no workers yet; waiting for them", description)
    most = max(LEAST_UNDER_WAY, UNDER_WAY_PER_THREAD * threads)
    waiting = iter(enumerate(tasks))
    numbers: dict[Any, int] = {}
    futures = as_completed()

    def submit(count: int) -> None:
        # One message for many tasks: each costs the scheduler milliseconds.
        batch = list(itertools.islice(waiting, count))
        if not batch:
            return
        submitted = client.map(partial(_attempt, function), [task for _, task in batch], pure=False)
        numbers.update((f.key, number) for f, (number, _) in zip(submitted, batch, strict=True))
        futures.update(submitted)

    submit(most)
    for ended, future in enumerate(futures):
        number = numbers.pop(future.key)
        try:
            error = future.exception()
            outcome: Result | _Failed = _lost(tasks[number], error) if error else future.result()
        except CancelledError:  # a scheduler that goes takes all of its tasks with it
            outcome = _Failed(f"{tasks[number]}: cancelled")
        cancelled = future.cancelled()  # after its release it may count as such
        future.release()
        if cancelled or client.status != "running":
            raise StageError(
                f"{description}: the dask scheduler is gone after {ended} of {len(tasks)}"
                " tasks; start it again and run the same command with -id"
            )
        if len(numbers) <= most // 2:
            submit(most // 2)
        yield number, outcome


def _lost(task: object, error: BaseException) -> _Failed:
    """Return the failure of a task whose workers did not live to report one."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return _Failed(
            f"{task}: every worker process that tried it was killed, perhaps for lack of memory;"
            " use fewer workers or smaller blocks",
            str(error),
        )
    return _Failed(f"{task}: {type(error).__name__}: {error}")


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
        with ExitStack() as stack:
            stack.enter_context(_environment_kept())
            # Other libraries may be loaded while the cluster runs.
            with _environment_kept():
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=workers.count,
                        threads_per_worker=1,
                        dashboard_address=":0",
                        env=ONE_THREAD,
                    )
                )
                client = stack.enter_context(Client(cluster))
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
