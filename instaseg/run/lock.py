"""One process at a time on an experiment."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from instaseg.errors import StageError


@contextmanager
def exclusive(lock_file: Path) -> Iterator[None]:
    """Hold `lock_file` until the block ends; the system releases it when the process is killed.

    Raises
    ------
    StageError
        If another process holds it (names that process and its host), or it cannot be made.
    """
    with _opened(lock_file) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().decode().strip() or "an unknown process"
            raise StageError(
                f"{lock_file.parent}: in use by {holder}; wait until it has finished, or stop it"
            ) from error
        with suppress(OSError):  # the name is only for messages; a full disk may refuse it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def _opened(lock_file: Path) -> BinaryIO:
    """Open the lock file, unbuffered so that nothing is left to be written when it is closed."""
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        return lock_file.open("a+b", buffering=0)
    except OSError as error:
        with suppress(OSError):
            lock_file.parent.rmdir()  # only if it is empty
        raise StageError(
            f"{lock_file.parent}: cannot be written ({error.strerror}); free space, mend its"
            " permissions or choose another --root"
        ) from error
