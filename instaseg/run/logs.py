"""Messages: on the terminal as they come, and all of them in the experiment's ``run.log``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


class _Terminal(logging.Handler):
    """Writes above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def log_to(file: Path, level: str) -> Iterator[None]:
    """Send the package's messages to `file`, and those from `level` on to the terminal."""
    terminal = _Terminal(level)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    kept = logging.FileHandler(file, encoding="utf-8")
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
