"""Reading the configuration: merge, check everything, report all errors at once.

Precedence, highest first: flags of the command line, ``--set``, the later ``--config`` file, the
earlier one, what a file ``extends``, defaults. Tables are merged key by key, lists are replaced.

Each place (file, ``--set``, flags) is checked on its own, so that an error names the place even
where another place overrides the value; then the merged tables, then the tables with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from instaseg.config.check import Checked, Place, check_layer, field_at, locate, must_be, nest
from instaseg.config.kinds import show, table_class
from instaseg.config.schema import (
    DEFAULT_METHOD,
    METHOD_TABLES,
    Config,
    build_schema,
    disagreements,
    own_words,
)
from instaseg.config.sources import Layer, flags_layer, read_files, read_overrides
from instaseg.config.write import config_to_toml
from instaseg.errors import ConfigError
from instaseg.methods import METHODS
from instaseg.settings import Table

__all__ = ["config_to_toml", "load_config", "load_tables"]

Schema = TypeVar("Schema", bound=Table)


def load_config(
    files: Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    cli: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration of some files, ``--set`` strings and flags.

    Parameters
    ----------
    files : sequence of Path
        TOML files, later ones win; paths in a file are relative to its folder.
    overrides : sequence of str
        ``table.key=value``; later ones win, and win over files; paths in them are relative to
        the working directory.
    cli : mapping, optional
        Values of flags by dotted name (``data.train_data``), None where a flag was not given;
        they win over everything.

    Returns
    -------
    Config
        Frozen, complete, with absolute paths.

    Raises
    ------
    ConfigError
        With every error of every place, one line each.
    """
    return load_tables(build_schema, files, overrides, cli=cli)


def load_tables(
    schema_of: Callable[[str], type[Schema]],
    files: Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    cli: Mapping[str, Any] | None = None,
) -> Schema:
    """Do what :func:`load_config` does with any schema; `schema_of` maps a method's name to it."""
    problems: list[str] = []
    layers = read_files(files, problems)
    complete = not problems  # else missing keys may stand in a file that could not be read
    layers += read_overrides(overrides, problems)
    layers.append(flags_layer(cli or {}))
    method = _choose_method(layers, problems)
    if method is None:
        layers = [_without_method(layer) for layer in layers]
    schema = schema_of(method or DEFAULT_METHOD)
    checked = [check_layer(schema, layer, problems) for layer in layers]
    merged = _merge(checked, fallback=str(files[-1]) if files else "configuration")
    if method is None:
        merged.broken.update((name,) for name in METHOD_TABLES)
    tables = _build_tables(schema, merged, problems) if complete else {}
    problems += [
        f"{merged.where(wrong.place)}: {wrong.message}"
        for wrong in disagreements(schema, tables)
        if not merged.is_broken(wrong.place)
    ]
    if problems:
        raise ConfigError(_report(list(dict.fromkeys(problems))))
    return schema.model_validate(tables)


def _report(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n- ".join([f"{len(problems)} errors in the configuration:", *problems])


def _choose_method(layers: Sequence[Layer], problems: list[str]) -> str | None:
    """Return the method that is named last, None where a name is wrong."""
    method: str | None = DEFAULT_METHOD
    for layer in layers:
        table = layer.tables.get("method")
        name = table.get("name") if isinstance(table, Mapping) else None
        if name is None:
            continue
        if isinstance(name, str) and name in METHODS:
            method = name if method else None
            continue
        near = get_close_matches(str(name), list(METHODS), n=1)
        hint = f"; did you mean {show(near[0])}?" if near else ""
        problems.append(
            f"{locate(layer.origin, ('method', 'name'), table=False)}: must be one of"
            f" {', '.join(map(show, METHODS))}; got {show(name)}{hint}"
        )
        method = None
    return method


def _without_method(layer: Layer) -> Layer:
    """Return a layer without the tables whose keys only the right method could tell."""
    kept = {name: table for name, table in layer.tables.items() if name not in METHOD_TABLES}
    return replace(layer, tables=kept)


@dataclass
class _Merged:
    """All places together: values by place, where they come from, and what is left out."""

    leaves: dict[Place, Any]
    origins: dict[Place, str]
    tables: set[Place]
    broken: set[Place]
    fallback: str

    def where(self, place: Place, *, table: bool = False) -> str:
        """Return origin, table and key of a place, as messages begin."""
        return locate(self._origin(place), place, table=table)

    def _origin(self, place: Place) -> str:
        """Return where a value comes from, else the last place that wrote to its table."""
        for end in (len(place), len(place) - 1):
            below = [self.origins[leaf] for leaf in self.leaves if leaf[:end] == place[:end]]
            if below and end:
                return below[-1]
        return self.fallback

    def within(self, table: str) -> dict[str, Any]:
        """Return the nested tables and keys of a top-level table."""
        leaves = {place: value for place, value in self.leaves.items() if place[0] == table}
        named = [place for place in self.tables if place[0] == table]
        return dict(nest(leaves, named).get(table, {}))

    def is_broken(self, place: Place) -> bool:
        """Return whether something at, below or above a place was left out because of an error."""
        return any(
            broken[: len(place)] == place or place[: len(broken)] == broken
            for broken in self.broken
        )


def _merge(layers: Sequence[Checked], fallback: str) -> _Merged:
    merged = _Merged({}, {}, set(), set(), fallback)
    for layer in layers:
        for place, value in layer.leaves.items():
            merged.leaves.pop(place, None)  # so that the order tells which place wrote last
            merged.leaves[place] = value
            merged.origins[place] = layer.origin
        merged.tables |= layer.tables
        merged.broken |= layer.broken
    return merged


def _build_tables(schema: type[Table], merged: _Merged, problems: list[str]) -> dict[str, Table]:
    """Return the top-level tables whose right values suffice; append what is wrong with others."""
    tables: dict[str, Table] = {}
    for name, info in schema.model_fields.items():
        cls = table_class(info)
        if cls is None:
            continue
        try:
            tables[name] = cls.model_validate(merged.within(name))
        except ValidationError as error:
            problems += _table_problems(schema, merged, (name,), error)
    if merged.is_broken(("data", "ndim")):
        tables.pop("data", None)  # its default would accuse shapes that may be right
    return tables


def _table_problems(
    schema: type[Table], merged: _Merged, top: Place, error: ValidationError
) -> Iterator[str]:
    """Yield a line for each missing key, and for each table whose keys do not go together."""
    for detail in error.errors(include_url=False):
        place = (*top, *(str(part) for part in detail["loc"]))
        info = field_at(schema, place)
        is_table = info is not None and table_class(info) is not None
        if merged.is_broken(place):
            continue  # already reported, or a consequence of it
        where = merged.where(place, table=is_table)
        if detail["type"] == "missing" and info is not None:
            yield f"{where}: missing; {must_be(info)}"
        else:
            yield f"{where}: {own_words(detail) or detail['msg']}"
