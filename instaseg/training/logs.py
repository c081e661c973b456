"""The log of a training: a CSV file for programs, TensorBoard for people."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from torch.utils.tensorboard.writer import SummaryWriter

from instaseg.errors import StageError

CSV_NAME = "log.csv"


class TrainingLog:
    """Rows of numbers by iteration; rows of iterations that are done again are replaced.

    Parameters
    ----------
    folder : Path
        Gets ``log.csv`` and TensorBoard's files.
    iteration : int
        Iterations done so far; later rows, of a run that was killed, are dropped.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        self._path = folder / CSV_NAME
        self._iteration = iteration
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self._excepthook = threading.excepthook
        threading.excepthook = self._in_thread
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._tensorboard = SummaryWriter(folder, purge_step=iteration + 1)
        except OSError as error:
            raise StageError(self._cannot_write(error)) from error

    def __enter__(self) -> Self:
        return self

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        """Show no traceback when TensorBoard's thread finds the disk full: it tells its caller."""
        if not issubclass(failure.exc_type, OSError):
            self._excepthook(failure)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._file is not None:
                self._file.close()
            self._tensorboard.close()
        except OSError as full:
            # The hook stays: the thread may be about to end, later than its caller was told.
            if error is None:
                raise StageError(self._cannot_write(full)) from full
        else:
            threading.excepthook = self._excepthook

    def write(self, row: Mapping[str, float], columns: Mapping[str, float]) -> None:
        """Append a row.

        Parameters
        ----------
        row : mapping of str to float
            Values by column, with the column `iteration`.
        columns : mapping
            All columns, in order; those not in `row` stay empty.

        Raises
        ------
        StageError
            If the disk is full.
        """
        try:
            if self._file is None:
                self._file = self._open(list(columns))
            text = ",".join(_text(row.get(name)) for name in self._columns)
            self._file.write(text + "\n")
            self._file.flush()
            for name, value in row.items():
                if name != "iteration":
                    self._tensorboard.add_scalar(name, value, int(row["iteration"]))
        except OSError as error:
            raise StageError(self._cannot_write(error)) from error

    def _open(self, columns: list[str]) -> TextIO:
        """Write the header and the earlier rows that still hold; return the file for more."""
        old = read_log(self._path) if self._path.exists() else []
        kept = [row for row in old if row["iteration"] <= self._iteration]
        self._columns = list(dict.fromkeys([*(name for row in kept for name in row), *columns]))
        partial = self._path.with_name(CSV_NAME + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(",".join(self._columns) + "\n")
            for row in kept:
                file.write(",".join(_text(row.get(name)) for name in self._columns) + "\n")
        os.replace(partial, self._path)
        return self._path.open("a", encoding="utf-8")

    def _cannot_write(self, error: OSError) -> str:
        return (
            f"{self._path}: cannot write the log: {error.strerror or error}. Checkpoints are kept:"
            " free space, then run the same command again with -id"
        )


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.8g}"


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a ``log.csv``; a last line that was cut short is left out.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    list of dict
        One for each row, with the columns that are not empty there.
    """
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [
        {name: float(value) for name, value in row.items() if value}
        for row in csv.DictReader(lines)
    ]
