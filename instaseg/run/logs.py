"""Messages: on the terminal as they come, and all of them in the experiment's ``run.log``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from instaseg.errors import StageError


class _Terminal(logging.Handler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _Kept(logging.FileHandler):
    """Goes without messages that a full disk refuses, instead of showing a traceback for each."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(file: Path, level: str) -> Iterator[None]:
    """Send the package's messages to `file`, and those from `level` on to the terminal.

    Raises
    ------
    StageError
        If the file cannot be opened.
    """
    terminal = _Terminal(level)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    kept = _open(file)
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("instaseg"), logging.getLogger("py.warnings")]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(kept)
    loggers[0].addHandler(terminal)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        loggers[0].removeHandler(terminal)
        for logger in loggers:
            logger.removeHandler(kept)
        kept.close()


def _open(file: Path) -> _Kept:
    try:
        return _Kept(file, encoding="utf-8")
    except OSError as error:
        raise StageError(
            f"{file}: cannot be written ({error.strerror}); free space or mend it, then run the"
            " same command again with -id"
        ) from error
