"""Tasks give the same result in this process and on a cluster; failures are all reported."""

import os

import pytest

from instaseg.blockwise import scheduler
from instaseg.blockwise.scheduler import Workers, check_scheduler, run_tasks
from instaseg.errors import ConfigError, DataError, StageError


def square(number: int) -> int:
    return number * number


def odd_only(number: int) -> int:
    if number % 2 == 0:
        raise DataError(f"{number} is even")
    return number


def process(_: int) -> int:
    return os.getpid()


def test_results_come_in_the_order_of_the_tasks():
    assert run_tasks(square, range(5), workers=Workers(), description="t") == [0, 1, 4, 9, 16]


def test_all_failures_are_named_and_the_rest_is_done():
    with pytest.raises(StageError, match=r"2 of 4 failed") as caught:
        run_tasks(odd_only, range(4), workers=Workers(), description="odd")
    assert "  - 0: 0 is even\n  - 2: 2 is even" in str(caught.value)


def test_local_cluster_gives_the_same_in_other_processes():
    workers = Workers(count=2)
    assert run_tasks(square, range(5), workers=workers, description="t") == [0, 1, 4, 9, 16]
    before = dict(os.environ)
    assert os.getpid() not in run_tasks(process, range(2), workers=workers, description="t")
    assert dict(os.environ) == before, "a cluster sets OMP_NUM_THREADS=1, which must not stay"


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(scheduler, "SECONDS_TO_CONNECT", 1)
    with pytest.raises(ConfigError, match=r"--scheduler tcp://127.0.0.1:1: no dask scheduler"):
        check_scheduler(Workers(1, "tcp://127.0.0.1:1"))
