"""One process at a time on an experiment."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instaseg.errors import StageError


@contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Hold `lock_file` until the block ends; the system releases it when the process is killed.

    Raises
    ------
    StageError
        If another process holds it; names that process and its host.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "an unknown process"
            raise StageError(
                f"{lock_file.parent}: in use by {holder}; wait until it has finished, or stop it"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
