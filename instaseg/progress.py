"""Progress bars: shown on a terminal, silent in a pipe or a log file."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], description: str, *, total: int | None = None
) -> Iterator[Item]:
    """Yield `items` with a progress bar on standard error, when that is a terminal.

    Parameters
    ----------
    items : iterable
        What is worked through.
    description : str
        Text before the bar.
    total : int, optional
        Number of items, where `items` has no length.

    Yields
    ------
    item
        The items, unchanged.
    """
    yield from tqdm(items, desc=description, total=total, disable=None, leave=False)
