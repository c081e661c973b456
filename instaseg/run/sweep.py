"""Parameter sets: what validation compares, and how a set is named."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ValidationError

from instaseg.errors import ConfigError
from instaseg.metrics.config import ComparisonSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.run.config import LABELLING, SWEPT_TABLES, ValidationSettings, dotted
from instaseg.settings import Table

__all__ = [
    "LABELLING",
    "SWEPT_TABLES",
    "ParameterSet",
    "best_row",
    "combinations",
    "dotted",
    "parameter_set",
    "set_name",
    "worth",
]
LONGEST_NAME = 200
"""Characters of a folder's name; file systems take 255 bytes."""


@dataclass(frozen=True)
class ParameterSet:
    """Settings of label, postprocess and evaluate that belong together.

    Parameters
    ----------
    values : dict
        What differs from the configuration, by dotted name.
    labelling, postprocessing, evaluation : Table
        The complete tables with these values.
    """

    values: Mapping[str, Any]
    labelling: Table
    postprocessing: PostprocessingSettings
    evaluation: ComparisonSettings

    @property
    def tables(self) -> dict[str, Table]:
        """The tables by the names they have in the configuration."""
        return {table: getattr(self, own) for table, own in SWEPT_TABLES.items()}

    @property
    def name(self) -> str:
        """Readable and unambiguous name of a folder of scores."""
        return set_name(self.values)

    @property
    def instances_name(self) -> str:
        """Name of a folder of instances: without ``[evaluation]``, which does not change them."""
        return set_name(
            {key: value for key, value in self.values.items() if not key.startswith("evaluation.")}
        )


def set_name(values: Mapping[str, Any]) -> str:
    """Return the folder name of a set of values, ``configured`` for none.

    A name that is too long for a folder ends in a digest of all of it.

    Examples
    --------
    >>> set_name({"vote_instances.th": [1.5, 2]}), set_name({"vote_instances.th": [1, 5, 2]})
    ('th=1.5+2', 'th=1+5+2')
    """
    if not values:
        return "configured"
    short = {key.removeprefix(f"{LABELLING}."): value for key, value in values.items()}
    name = ",".join(f"{quote(key)}={_text(value)}" for key, value in short.items())
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: LONGEST_NAME - 17]}~{digest}"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(_text(item) for item in value)
    return quote(value if isinstance(value, str) else json.dumps(value), safe="")


def combinations(settings: ValidationSettings) -> list[dict[str, Any]]:
    """Return the value sets of a sweep, product parameters outermost, by dotted name.

    Examples
    --------
    >>> combinations(ValidationSettings(params_product=["a"], params_zip=["b", "c"],
    ...                                 a=[1, 2], b=[3, 4], c=[5, 6]))[1]
    {'vote_instances.a': 1, 'vote_instances.b': 4, 'vote_instances.c': 6}
    """
    products = itertools.product(*(settings.values[name] for name in settings.params_product))
    zipped = list(zip(*(settings.values[name] for name in settings.params_zip), strict=True))
    names = [dotted(name) for name in (*settings.params_product, *settings.params_zip)]
    return [
        dict(zip(names, (*product, *together), strict=True))
        for product, together in itertools.product(products, zipped or [()])
    ]


def parameter_set(tables: Mapping[str, Table], values: Mapping[str, Any]) -> ParameterSet:
    """Return `tables` (by the names in ``SWEPT_TABLES``) with `values` put in and validated.

    Raises
    ------
    ConfigError
        If the values do not go together, such as two keys of one table that exclude each other.
    """
    dumped = {table: settings.model_dump() for table, settings in tables.items()}
    for name, value in values.items():
        *parents, key = name.split(".")
        inner: Any = dumped
        for parent in parents:
            inner = inner[parent]
        inner[key] = value
    changed: dict[str, Any] = {}
    for table, settings in tables.items():
        try:
            changed[SWEPT_TABLES[table]] = type(settings).model_validate(dumped[table])
        except ValidationError as error:
            raise ConfigError(
                f"[validation] parameters {set_name(values)}: expected values that go together in"
                f" [{table}]; {_reason(error)}"
            ) from error
    return ParameterSet(dict(values), **changed)


def _reason(error: ValidationError) -> str:
    """Return what a table says about its values."""
    parts = []
    for detail in error.errors(include_url=False):
        place = ".".join(str(part) for part in detail["loc"])
        own = detail.get("ctx", {}).get("error")
        text = f"{own or detail['msg']}"
        parts.append(f"{place}: {text}" if place else text)
    return "; ".join(parts)


def best_row(
    rows: Sequence[Mapping[str, Any]], metric: str, *, better: Literal["higher", "lower"] = "higher"
) -> Mapping[str, Any]:
    """Return the row with the best value of `metric`.

    Ties go to the earlier checkpoint, then to the parameter set that was listed first: less
    training and the order the user wrote are the plainer choice. A row without a value (NaN) is
    worse than any with one.
    """

    def order(item: tuple[int, Mapping[str, Any]]) -> tuple[float, int, int]:
        number, row = item
        return worth(row[metric], better), -row["checkpoint"], -number

    return max(enumerate(rows), key=order)[1]


def worth(value: float, better: Literal["higher", "lower"]) -> float:
    """Return a score so that higher is better; one that does not exist (NaN) is below all.

    Examples
    --------
    >>> worth(3, "lower"), worth(math.nan, "higher")
    (-3, -inf)
    """
    if math.isnan(value):
        return -math.inf
    return value if better == "higher" else -value
