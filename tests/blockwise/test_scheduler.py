"""Tasks give the same result in this process and on a cluster; failures are all reported."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instaseg.blockwise import scheduler
from instaseg.blockwise.scheduler import Pool, Workers, check_scheduler, run_tasks
from instaseg.errors import ConfigError, DataError, StageError


def square(number: int) -> int:
    return number * number


def odd_only(number: int) -> int:
    if number % 2 == 0:
        raise DataError(f"{number} is even")
    return number


def process_after_a_while(_: int) -> int:
    time.sleep(0.05)  # so that one process does not do everything while the other one starts
    return os.getpid()


def process(_: int) -> int:
    return os.getpid()


def dies_once(marker: Path) -> int:
    """Kill this process unless it was done before."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def dies(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def numba_threads(_: int) -> int:
    import numba

    return numba.config.NUMBA_NUM_THREADS


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def breaks(number: int) -> int:
    if number == 1:
        raise ValueError("no such luck")
    return number


SCHEDULER = """
import sys, time
from pathlib import Path
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                      protocol="tcp", dashboard_address=None) as cluster:
        Path(sys.argv[1]).write_text(cluster.scheduler_address)
        time.sleep(60)
"""
"""A scheduler and its worker in one process; writes its address to a file."""


def test_results_come_in_the_order_of_the_tasks():
    assert run_tasks(square, range(5), workers=Workers(), description="t") == [0, 1, 4, 9, 16]


def test_all_failures_are_named_and_the_rest_is_done():
    with pytest.raises(StageError, match=r"2 of 4 failed") as caught:
        run_tasks(odd_only, range(4), workers=Workers(), description="odd")
    assert "  - 0: 0 is even\n  - 2: 2 is even" in str(caught.value)


@pytest.mark.parametrize("count", [1, 2])
def test_a_defect_names_its_task_and_the_rest_is_done(count, caplog):
    with (
        caplog.at_level(logging.DEBUG, logger="instaseg"),
        pytest.raises(StageError, match=r"1 of 3 failed, the others are finished") as caught,
    ):
        run_tasks(breaks, range(3), workers=Workers(count), description="t")
    assert "  - 1: unexpected ValueError: no such luck" in str(caught.value)
    assert 'raise ValueError("no such luck")' in caplog.text, "the log has the traceback"


def test_a_pool_keeps_its_processes_and_starts_none_for_one_task():
    with Pool(Workers(count=2)) as pool:
        assert pool.run(process, [0], description="t") == [os.getpid()]
        first = set(pool.run(process_after_a_while, range(40), description="t"))
        second = set(pool.run(process, range(8), description="t"))
        assert pool.run(square, [], description="t") == []
        with pytest.raises(StageError, match="1 of 2 failed"):
            pool.run(odd_only, range(2), description="t")
        assert pool.run(square, range(300), description="t") == [n * n for n in range(300)]
    assert second <= first
    assert os.getpid() not in first


def test_the_task_of_a_lost_worker_is_done_by_another(tmp_path):
    tasks = [tmp_path / "a", tmp_path / "b"]
    tasks[1].touch()
    assert run_tasks(dies_once, tasks, workers=Workers(2), description="t") == [7, 7]
    assert tasks[0].exists()


@pytest.mark.slow
def test_a_task_that_kills_every_worker_names_itself_and_the_rest_is_done():
    with pytest.raises(StageError, match=r"1 of 4 failed") as caught:
        run_tasks(dies, range(4), workers=Workers(2), description="t")
    assert "  - 1: every worker process that tried it was killed" in str(caught.value)


@pytest.mark.slow
def test_ten_thousand_tasks_run_on_a_cluster():
    done = run_tasks(square, range(10_000), workers=Workers(2), description="t")
    assert done == [n * n for n in range(10_000)]


def test_local_cluster_gives_the_same_in_other_processes():
    workers = Workers(count=2)
    assert run_tasks(square, range(5), workers=workers, description="t") == [0, 1, 4, 9, 16]
    before = dict(os.environ)
    assert os.getpid() not in run_tasks(process, range(2), workers=workers, description="t")
    assert dict(os.environ) == before, "a cluster sets OMP_NUM_THREADS=1, which must not stay"


def test_processes_of_a_local_cluster_have_one_thread_each():
    done = run_tasks(numba_threads, range(2), workers=Workers(2), description="t")
    assert done == [1, 1]


def test_a_running_scheduler_is_used_and_left_running():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        workers = Workers(scheduler=cluster.scheduler_address)
        check_scheduler(workers)
        for _ in range(2):
            (worker,) = set(run_tasks(process, range(3), workers=workers, description="t"))
            assert worker != os.getpid()


def test_a_scheduler_that_goes_in_the_middle_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "SECONDS_TO_CONNECT", 1)
    address = tmp_path / "address"
    command = [sys.executable, "-c", SCHEDULER, str(address)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as its:
        try:
            while not address.exists() or not address.read_text():
                time.sleep(0.1)
            workers = Workers(scheduler=address.read_text())
            with pytest.raises(StageError, match=r"the dask scheduler is gone after \d of 2"):
                run_tasks(die, [0, 1], workers=workers, description="t")
        finally:
            its.kill()


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(scheduler, "SECONDS_TO_CONNECT", 1)
    with pytest.raises(ConfigError, match=r"--scheduler tcp://127.0.0.1:1: no dask scheduler"):
        check_scheduler(Workers(1, "tcp://127.0.0.1:1"))
