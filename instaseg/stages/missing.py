"""What of a stage's work is not done yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from instaseg.blockwise.store import MADE_FROM, BlockStore
from instaseg.stages.context import Context

logger = logging.getLogger(__name__)

TaskT = TypeVar("TaskT")


def missing_tasks(
    context: Context, tasks: Sequence[TaskT], is_done: Callable[[TaskT], bool]
) -> list[TaskT]:
    """Return the tasks that are not done, in their order; all of them with ``--overwrite``.

    Parameters
    ----------
    context : Context
        Says what happens to finished work.
    tasks : sequence
        All of them: samples, or what is made of each.
    is_done : callable
        Whether a task's result is there, made from what it would be made from now; not asked with
        ``--overwrite``.
    """
    overwrite = context.options.existing == "overwrite"
    return [task for task in tasks if overwrite or not is_done(task)]


def forget_blocks(context: Context, folders: Iterable[Path]) -> None:
    """Delete finished blocks of earlier runs with ``--overwrite``, which begins at the start."""
    if context.options.existing == "overwrite":
        for folder in folders:
            BlockStore(folder).remove()


def remove_blocks(folders: Iterable[Path]) -> None:
    """Delete blocks of earlier runs once the results are there: nothing goes on with them.

    A run removes its own; left are those of one that was killed just then, or before it was done
    at once.
    """
    for folder in folders:
        if (folder / MADE_FROM).is_file():
            BlockStore(folder).remove()


def skip_done(
    context: Context, tasks: Sequence[TaskT], is_done: Callable[[TaskT], bool], *, words: str
) -> list[TaskT]:
    """Return the tasks that are not done; says how many are, where some are.

    Parameters
    ----------
    context, tasks, is_done
        See :func:`missing_tasks`.
    words : str
        What is said of those that are done, with two ``%d``: how many, and of how many.
    """
    missing = missing_tasks(context, tasks, is_done)
    if len(missing) < len(tasks):
        logger.info(words, len(tasks) - len(missing), len(tasks))
    return missing
