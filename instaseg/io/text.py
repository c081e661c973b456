"""Text files that are whole or not there, and TOML that reads back as it was."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import toml

from instaseg.errors import StageError


def to_toml(values: Mapping[str, Any]) -> str:
    r"""Return tables and plain values as TOML; keys without a value (None) are left out.

    Examples
    --------
    >>> to_toml({"seed": 1, "comment": None, "command": ["a"]})
    'seed = 1\ncommand = [ "a",]\n'
    """
    encoder = toml.TomlEncoder(dict, preserve=False)
    encoder.dump_funcs[str] = _quoted
    return str(toml.dumps(dict(values), encoder=encoder))


def _quoted(text: str) -> str:
    # toml's own quoting breaks on a backslash before x, and on control characters; JSON's escapes
    # are TOML's too, except that TOML wants DEL escaped. What is not Unicode (a broken file name on
    # the command line) becomes a question mark.
    valid = text.encode("utf-8", errors="replace").decode("utf-8")
    return json.dumps(valid, ensure_ascii=False).replace("\x7f", "\\u007f")


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
        with suppress(OSError):
            partial.unlink()
        raise StageError(
            f"{path}: cannot be written ({error.strerror}); free space or choose another --root,"
            " then run the same command again with -id"
        ) from error
