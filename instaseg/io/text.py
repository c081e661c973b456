"""Text files that are whole or not there."""

import os
from pathlib import Path

from instaseg.errors import StageError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` under a temporary name and rename it, making parent folders.

    Raises
    ------
    StageError
        If the file cannot be written; an older file of that name is left as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StageError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another --root,"
            " then run the same command again with -id"
        ) from error
