"""All tables together: one schema per method, and what tables must agree on among themselves."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo

from instaseg.config.kinds import expected, fits, show, table_class
from instaseg.data.config import DataSettings
from instaseg.inference.config import PredictionSettings
from instaseg.methods import METHODS, load
from instaseg.metrics.config import ComparisonSettings
from instaseg.models.config import ModelSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.report.config import VisualizeSettings
from instaseg.run.config import LABELLING, SWEPT_TABLES, GeneralSettings, ValidationSettings
from instaseg.settings import Shape, Table
from instaseg.training.config import OptimizerSettings, TrainingSettings

DEFAULT_METHOD = "patches"
METHOD_TABLES = ("method", "vote_instances", "validation", "evaluation")
"""Tables whose keys depend on the method."""

SWEPT_BY_DOTTED_NAME = tuple(table for table in SWEPT_TABLES if table != LABELLING)
"""Tables whose keys a sweep names as ``table.key``."""

PER_AXIS_OR_ONE = (
    "training.augmentation.elastic.control_point_spacing",
    "training.augmentation.elastic.jitter_sigma",
    "method.context",
)
"""Keys with one number for each axis, or a single one for all."""

IN_PLANE = ("method.patch_shape",)
"""Keys that in volumes may have two numbers, for y and x: they then lie in the plane."""


class Config(Table):
    """The whole configuration; stages hand its tables down one by one."""

    general: GeneralSettings
    """What concerns a run as a whole."""
    method: Table
    """What the network predicts; its `name` chooses the class."""
    data: DataSettings
    """Images and labels."""
    model: ModelSettings
    """The network."""
    training: TrainingSettings
    """How the network is trained."""
    optimizer: OptimizerSettings
    """How a training step changes the weights."""
    prediction: PredictionSettings
    """How the network is applied to whole images."""
    validation: ValidationSettings
    """What is compared to choose a checkpoint and parameters."""
    vote_instances: Table
    """How predictions become results; the class belongs to the method."""
    postprocessing: PostprocessingSettings
    """What is repaired in instances."""
    evaluation: ComparisonSettings
    """How results are scored; the class follows from what the method gives."""
    visualize: VisualizeSettings
    """What is drawn."""


@functools.cache
def build_schema(method: str) -> type[Config]:
    """Return the schema with a method's ``[method]``, ``[vote_instances]`` and ``[evaluation]``.

    Parameters
    ----------
    method : str
        A key of :data:`instaseg.methods.METHODS`.

    Returns
    -------
    type of Config
        The same class each time, so that configurations can be compared.
    """
    entry = METHODS[method]
    tables: dict[str, Any] = {
        "method": load(entry.settings),
        LABELLING: load(entry.labelling),
        "evaluation": load(entry.evaluation),
    }
    overridden: dict[str, Any] = {
        name: (cls, FieldInfo(description=Config.model_fields[name].description))
        for name, cls in tables.items()
    }
    return create_model(f"{method.title()}Config", __base__=Config, **overridden)


def walk_tables(
    schema: type[Table], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], type[Table]]]:
    """Yield every table below a schema with its path, in the order of the fields."""
    for name, field in schema.model_fields.items():
        cls = table_class(field)
        if cls is not None:
            yield (*path, name), cls
            yield from walk_tables(cls, (*path, name))


def sweepable(schema: type[Table]) -> dict[str, tuple[type[Table], str]]:
    """Return the names a sweep may use, each with the class and the key it means.

    Keys of ``[vote_instances]`` go by their bare name too; those of tables within tables by all
    names down to them.
    """
    names: dict[str, tuple[type[Table], str]] = {}
    for path, cls in walk_tables(schema):
        if path[0] not in SWEPT_TABLES:
            continue
        prefixes = [".".join(path)]
        if path[0] == LABELLING:
            prefixes.append(".".join(path[1:]))
        for key, field in cls.model_fields.items():
            if table_class(field) is None:
                names |= {f"{prefix}.{key}".lstrip("."): (cls, key) for prefix in prefixes}
    return names


@dataclass(frozen=True)
class Disagreement:
    """Something that is wrong between tables.

    Parameters
    ----------
    place : tuple of str
        Table and key the message is about.
    message : str
        What was expected, what was found, what to do.
    """

    place: tuple[str, ...]
    message: str


def disagreements(schema: type[Table], tables: Mapping[str, Table]) -> list[Disagreement]:
    """Return what tables that are right by themselves do not agree on.

    Parameters
    ----------
    schema : type of Config
        Gives the swept tables' classes.
    tables : mapping
        Valid tables by name; a check whose tables are not all there is left out.
    """
    found: list[Disagreement] = []
    data = tables.get("data")
    if isinstance(data, DataSettings):
        found += _wrong_axes(tables, data.ndim)
    validation = tables.get("validation")
    if validation is not None:
        found += wrong_sweeps(schema, validation)
    if "method" in tables:
        found += agreement(tables)
    return found


def agreement(tables: Mapping[str, Table]) -> Iterator[Disagreement]:
    """Yield what the method's own check of the tables finds; ``method`` is among them."""
    check = METHODS[tables["method"].model_dump()["name"]].agreement
    if check is not None:
        for place, message in load(check)(tables):
            yield Disagreement(place, message)


def _wrong_axes(tables: Mapping[str, Table], ndim: int) -> Iterator[Disagreement]:
    for place, field, value in _leaves(tables):
        if not isinstance(value, Sequence):
            continue
        shared = ".".join(place) in PER_AXIS_OR_ONE and len(value) == 1
        per_axis = ".".join(place) in PER_AXIS_OR_ONE or _is_shape(field)
        in_plane = ".".join(place) in IN_PLANE and len(value) == 2
        if per_axis and not shared and not in_plane and len(value) != ndim:
            yield Disagreement(
                place,
                f"must have {ndim} numbers, one per axis, because data.ndim = {ndim}; got"
                f" {show(value)}; change it or data.ndim",
            )


def _leaves(
    tables: Mapping[str, Table], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    """Yield path, field and value of every key below some tables."""
    for name, table in tables.items():
        for key, field in type(table).model_fields.items():
            value = getattr(table, key)
            if isinstance(value, Table):
                continue
            yield (*path, name, key), field, value
        inner = {key: value for key, value in table if isinstance(value, Table)}
        yield from _leaves(inner, (*path, name))


def _is_shape(field: FieldInfo) -> bool:
    """Return whether a field is a ``Shape``, or ``Shape | None``."""
    (flat_axis,) = get_args(Shape)[1:]
    parts = get_args(field.annotation)
    return flat_axis in field.metadata or any(flat_axis in get_args(part)[1:] for part in parts)


def wrong_sweeps(schema: type[Table], validation: Table) -> Iterator[Disagreement]:
    """Yield what is wrong with the value lists of ``[validation]``.

    Parameters
    ----------
    schema : type of Config
        Gives the classes the swept keys belong to.
    validation : Table
        The table; its extra keys are the lists.
    """
    known = sweepable(schema)
    for name, values in (validation.model_extra or {}).items():
        path = ("validation", name)
        if name not in known:
            yield Disagreement(path, unknown_sweep(name, known))
            continue
        if not isinstance(values, (list, tuple)):
            continue  # the table itself asks for a list
        cls, key = known[name]
        for value in values:
            message = wrong_value(cls, key, value)
            if message:
                yield Disagreement(path, f"every value {message}")


def unknown_sweep(name: str, known: Mapping[str, object]) -> str:
    """Return the message for a list of values whose name is no parameter of a swept table."""
    near = get_close_matches(name, [*ValidationSettings.model_fields, *known], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"unknown key; {hint}it must be one of {', '.join(ValidationSettings.model_fields)}, or the"
        f" values to try for a key of [{LABELLING}] or, dotted, of"
        f" {' or '.join(f'[{table}]' for table in SWEPT_BY_DOTTED_NAME)}"
    )


def wrong_value(cls: type[Table], key: str, value: object) -> str | None:
    """Return ``must be ...; got ...`` where one value does not suit one key of a table, else None.

    Checks that concern several keys of the table are not made.
    """
    field = cls.model_fields[key]
    wanted = f"must be {expected(field.annotation, field.metadata)}; got {show(value)}"
    if not fits(field.annotation, field.metadata, value):
        return wanted
    try:
        cls.model_validate({key: value})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][:1] == (key,) and detail["type"] != "missing":
                return own_words(detail) or wanted
    return None


def own_words(detail: Mapping[str, Any]) -> str | None:
    """Return the message of a validator of ours in a pydantic error, None for pydantic's own."""
    raised = detail.get("ctx", {}).get("error")
    return str(raised) if isinstance(raised, (ValueError, AssertionError)) else None
