"""Checks one place (a file, a ``--set``, the flags) on its own: names, types, constraints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from instaseg.config.kinds import choices, expected, fits, holds_path, show, table_class
from instaseg.config.removed import removed_keys
from instaseg.config.schema import own_words, sweepable, unknown_sweep, walk_tables
from instaseg.config.sources import Layer
from instaseg.settings import Table

Place = tuple[str, ...]
"""Names of the tables from the top, then the key."""


@dataclass
class Checked:
    """What of a layer is right.

    Parameters
    ----------
    origin : str
        The layer's place, as messages name it.
    leaves : dict
        Values by place, paths made absolute.
    tables : set
        Tables that are named without a key; naming an optional table switches it on.
    broken : set
        Places that had a value with an error.
    """

    origin: str
    leaves: dict[Place, Any] = field(default_factory=dict)
    tables: set[Place] = field(default_factory=set)
    broken: set[Place] = field(default_factory=set)


def check_layer(schema: type[Table], layer: Layer, problems: list[str]) -> Checked:
    """Return what is right in a layer; append a line to `problems` for everything else.

    Parameters
    ----------
    schema : type of Table
        Its fields are the tables.
    layer : Layer
        Tables as TOML has them.
    problems : list of str
        Grows by one line per error.
    """
    check = _LayerCheck(schema, layer, problems)
    check.table(schema, layer.tables, ())
    check.constraints()
    return check.checked


def locate(origin: str, place: Place, *, table: bool) -> str:
    """Return ``origin [table] key``, or ``origin [table]`` where the place is a table."""
    if table:
        return f"{origin} [{'.'.join(place)}]"
    *parents, key = place
    return f"{origin} [{'.'.join(parents)}] {key}" if parents else f"{origin} {key}"


def nest(leaves: Mapping[Place, Any], tables: Iterable[Place] = ()) -> dict[str, Any]:
    """Return nested tables for values by place."""
    nested: dict[str, Any] = {}
    for place in tables:
        _table_at(nested, place)
    for (*parents, key), value in leaves.items():
        _table_at(nested, tuple(parents))[key] = value
    return nested


def _table_at(nested: dict[str, Any], place: Place) -> dict[str, Any]:
    for name in place:
        nested = nested.setdefault(name, {})
    return nested


class _LayerCheck:
    """The walk over one layer; collects in :attr:`checked` and ``problems``."""

    def __init__(self, schema: type[Table], layer: Layer, problems: list[str]) -> None:
        self._schema = schema
        self._layer = layer
        self._problems = problems
        self._removed = removed_keys(schema)
        self._sweepable = sweepable(schema)
        self.checked = Checked(layer.origin)

    def table(self, cls: type[Table], tables: Mapping[str, Any], path: Place) -> None:
        """Check the keys of one table and of those below it."""
        if path and not tables:
            self.checked.tables.add(path)
        for key, value in tables.items():
            place = (*path, key)
            info = cls.model_fields.get(key)
            inner = table_class(info) if info else None
            gone = self._removed.get(".".join(place))
            if gone and (info is None or (inner is None and isinstance(value, Mapping))):
                self._refuse(place, gone, table=isinstance(value, Mapping))
            elif info is None and cls.model_config.get("extra") == "allow":
                self._extra(path, key, value)
            elif info is None:
                message = unknown(self._schema, cls, place, value)
                self._refuse(place, message, table=isinstance(value, Mapping))
            elif inner is None:
                self._leaf(place, info, value)
            elif isinstance(value, Mapping):
                self.table(inner, value, place)
            else:
                self._refuse(place, f"must be a table; got {show(value)}", table=True)

    def _leaf(self, place: Place, info: FieldInfo, value: Any) -> None:
        if not fits(info.annotation, info.metadata, value):
            if self._layer.text is None or not fits(
                info.annotation, info.metadata, self._layer.text
            ):
                self._refuse(place, _wrong_type(info, value))
                return
            value = self._layer.text
        if holds_path(info.annotation):
            value = _absolute(self._layer.folder, info.annotation, value)
        self.checked.leaves[place] = value

    def _extra(self, path: Place, key: str, value: Any) -> None:
        """Take a list of values for a sweep; ``a.b = [..]`` may come as a table in a table."""
        if isinstance(value, Mapping):
            for inner, item in value.items():
                self._extra(path, f"{key}.{inner}", item)
        elif key in self._sweepable:
            self.checked.leaves[(*path, key)] = value
        else:
            self._refuse((*path, key), unknown_sweep(key, self._sweepable))

    def constraints(self) -> None:
        """Let pydantic check the values whose types are right."""
        leaves = self.checked.leaves
        try:
            self._schema.model_validate(nest(leaves, self.checked.tables))
        except ValidationError as error:
            # What concerns a table, or is missing, may be right once all places are merged.
            for detail in error.errors(include_url=False):
                loc = tuple(str(part) for part in detail["loc"])
                place = next((loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in leaves), None)
                if place is not None:
                    self._refuse(place, self._constraint_message(place, detail))
        for place in self.checked.broken:
            leaves.pop(place, None)

    def _constraint_message(self, place: Place, detail: Mapping[str, Any]) -> str:
        info = field_at(self._schema, place)
        own = own_words(detail)
        if own or info is None:
            return own or str(detail["msg"])
        return _wrong_type(info, self.checked.leaves[place])

    def _refuse(self, place: Place, message: str, *, table: bool = False) -> None:
        where = locate(self._layer.origin, place, table=table)
        line = f"{where}: {message}"
        if line not in self._problems:
            self._problems.append(line)
        self.checked.broken.add(place)


def field_at(schema: type[Table], place: Place) -> FieldInfo | None:
    """Return the field at a place, None if there is none."""
    cls: type[Table] | None = schema
    info = None
    for name in place:
        if cls is None or name not in cls.model_fields:
            return None
        info = cls.model_fields[name]
        cls = table_class(info)
    return info


def must_be(info: FieldInfo) -> str:
    """Return ``must be <what a field expects>``."""
    return f"must be {expected(info.annotation, info.metadata)}"


def _wrong_type(info: FieldInfo, value: Any) -> str:
    message = f"{must_be(info)}; got {show(value)}"
    near = get_close_matches(str(value), choices(info.annotation), n=1)
    return f"{message}; did you mean {show(near[0])}?" if near else message


def _absolute(folder: Path, annotation: Any, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_absolute(folder, annotation, item) for item in value]
    if not isinstance(value, str) or value in choices(annotation):
        return value
    return os.path.abspath(folder / Path(value).expanduser())


def unknown(schema: type[Table], cls: type[Table], place: Place, value: Any) -> str:
    """Return the message for a name a table does not have: where it belongs, or the nearest.

    Parameters
    ----------
    schema : type of Table
        All tables, to look for the name elsewhere.
    cls : type of Table
        The table in which the name was found.
    place : tuple of str
        Where it was found.
    value : Any
        Its value; a mapping stands for a table.
    """
    if isinstance(value, Mapping):
        return _unknown_table(schema, cls, place)
    key = place[-1]
    homes = [
        path
        for path, table in walk_tables(schema)
        if key in table.model_fields and table_class(table.model_fields[key]) is None
    ]
    if homes:
        return f"unknown key; it belongs to {_either(homes)}"
    keys = [name for name, info in cls.model_fields.items() if table_class(info) is None]
    near = get_close_matches(key, keys, n=1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    elsewhere = {name: path for path, table in walk_tables(schema) for name in table.model_fields}
    near = get_close_matches(key, list(elsewhere), n=1, cutoff=0.8)
    if near:
        return f"unknown key; did you mean {near[0]!r} of [{'.'.join(elsewhere[near[0]])}]?"
    return f"unknown key; keys of this table: {', '.join(keys) or 'none, write a [table] first'}"


def _unknown_table(schema: type[Table], cls: type[Table], place: Place) -> str:
    paths = [path for path, _ in walk_tables(schema)]
    same = [path for path in paths if path[-1] == place[-1]]
    if same:
        return f"unknown table; did you mean {_either(same)}?"
    here = [path for path in paths if len(path) == len(place) and path[:-1] == place[:-1]]
    names = {path[-1]: path for path in [*paths, *here]}
    near = get_close_matches(place[-1], list(names), n=1)
    if near:
        return f"unknown table; did you mean [{'.'.join(names[near[0]])}]?"
    if place[-1] in cls.model_fields or not here:
        return "unknown table; there is no table here"
    return f"unknown table; tables here: {', '.join(path[-1] for path in here)}"


def _either(paths: Iterable[Place]) -> str:
    return " or ".join(f"[{'.'.join(path)}]" for path in paths)
