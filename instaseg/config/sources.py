"""Where configuration comes from: files, what they extend, ``--set`` and flags.

Nothing here knows which tables or keys exist; :mod:`instaseg.config.load` checks that.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from instaseg.config.kinds import show

EXTENDS = "extends"

_PLACE = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_KEY = r"[A-Za-z0-9_-]+"
_OVERRIDE = re.compile(rf"\s*(?P<key>{_KEY}(?:\.{_KEY})+)\s*=(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class Layer:
    """Tables from one place.

    Parameters
    ----------
    origin : str
        The place, as messages name it: a file, ``--set a.b=c`` or ``command line``.
    folder : Path
        What relative paths in it are relative to.
    tables : dict
        Nested tables as TOML has them.
    text : str or None
        The value of a ``--set`` as it was typed, where TOML read something else in it.
    """

    origin: str
    folder: Path
    tables: Mapping[str, Any]
    text: str | None = None


def read_files(files: Sequence[Path], problems: list[str]) -> list[Layer]:
    """Return the layers of files and of what they extend, lowest precedence first.

    A file named by the user wins over every file that is only extended, whatever the order, and
    a later one over an earlier one. Appends to `problems` what is wrong with a file, and goes on.
    """
    extended: list[Layer] = []
    named: list[Layer] = []
    for file in files:
        *parents, own = _read_chain(file, (), problems)
        extended += [layer for layer in parents if layer is not None]
        named += [own] if own is not None else []
    return extended + named


def _read_chain(file: Path, below: tuple[Path, ...], problems: list[str]) -> list[Layer | None]:
    """Return the layers of what a file extends, oldest first, then its own; None if unreadable."""
    path = Path(os.path.abspath(file))
    if path in below:
        chain = " -> ".join(str(link) for link in (*below[below.index(path) :], path))
        problems.append(
            f'{below[-1]}: "{EXTENDS}" must not lead back to the same file; found {chain};'
            " remove one of these lines"
        )
        return [None]
    tables = _read_toml(file, problems)
    if tables is None:
        return [None]
    parent = tables.pop(EXTENDS, None)
    own = Layer(str(file), path.parent, tables)
    if parent is None:
        return [own]
    if not isinstance(parent, str) or not parent:
        problems.append(f'{file}: "{EXTENDS}" must be the path of a file; got {show(parent)}')
        return [own]
    target = file.parent / parent
    if not target.is_file():
        problems.append(
            f"{file}: extends {show(parent)}, but there is no such file{_nearest_file(target)};"
            " the path is relative to the file that names it"
        )
        return [own]
    return [*_read_chain(target, (*below, path), problems), own]


def _read_toml(file: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file}, {_explain(str(error))}")
    except UnicodeDecodeError as error:
        problems.append(
            f"{file}: must be a text file in UTF-8; byte {error.start} is not; save it as UTF-8"
        )
    except FileNotFoundError:
        problems.append(f"{file}: no such file{_nearest_file(file)}")
    except IsADirectoryError:
        problems.append(f"{file}: must be a TOML file; found a folder")
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror}); check its permissions")
    return None


def _explain(message: str) -> str:
    """Return tomllib's message with the place in front and a hint at the end."""
    match = _PLACE.search(message)
    place = "end of file"
    if match and match["line"]:
        place = f"line {match['line']}, column {match['column']}"
    reason = message[: match.start()] if match else message
    if "overwrite" in reason or "twice" in reason:
        hint = "a key or [table] may stand only once in a file: merge the two"
    else:
        hint = 'write key = value, with text in "quotes" and lists in [brackets]'
    return f"{place}: not valid TOML ({reason[:1].lower()}{reason[1:]}); {hint}"


def _nearest_file(path: Path) -> str:
    there = sorted(other.stem for other in path.parent.glob("*.toml"))
    if not there:
        return f"; no *.toml in {path.parent}"
    near = get_close_matches(path.stem, there, n=1)
    if near:
        return f"; did you mean {near[0]}.toml?"
    return f"; there are {', '.join(f'{stem}.toml' for stem in there)}"


def read_overrides(overrides: Sequence[str], problems: list[str]) -> list[Layer]:
    """Return one layer for each ``--set`` string ``table.key=value``, in their order.

    The value is read as TOML, and taken as plain text where it is no TOML
    (``method.foreground=centre``).
    """
    layers = []
    for override in overrides:
        match = _OVERRIDE.fullmatch(override)
        if match is None or not match["value"].strip():
            problems.append(
                f"--set {override}: must be table.key=value, for example"
                f" --set training.max_minutes=3; {_fault(override)}"
            )
            continue
        text = match["value"].strip()
        value = _toml_value(text)
        tables: Any = value
        for part in reversed(match["key"].split(".")):
            tables = {part: tables}
        layers.append(Layer(f"--set {override}", Path.cwd(), tables, text))
    return layers


def _fault(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return "found no ="
    if not value.strip():
        return "found no value (an empty text is '\"\"')"
    if "." not in key:
        return f"found no table before {show(key.strip())}"
    return f"{show(key.strip())} is not a table and a key"


def _toml_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break in the text could begin a second key: then it is text.
    return document["value"] if set(document) == {"value"} else text


def flags_layer(flags: Mapping[str, Any]) -> Layer:
    """Return the layer of command-line flags: values by dotted name, None where not given."""
    tables: dict[str, Any] = {}
    for name, value in flags.items():
        if value is None:
            continue
        *parents, key = name.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[key] = str(value) if isinstance(value, Path) else value
    return Layer("command line", Path.cwd(), tables)
