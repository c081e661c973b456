"""Types of the configuration in words: what a key expects, and whether a TOML value is that.

Pydantic would turn ``"3"`` into 3 and ``true`` into 1; a configuration file means what it says, so
values are compared with the annotation before pydantic sees them. Constraints (``Field(gt=0)``) and
validators are left to pydantic.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, PlainValidator, WrapValidator
from pydantic.fields import FieldInfo

from instaseg.settings import Table

_LONGEST_VALUE = 60

_NOUNS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text in quotes", "texts in quotes"),
    Path: ("a path in quotes", "paths in quotes"),
}

_LIMITS = {
    "gt": "greater than",
    "ge": "of at least",
    "lt": "less than",
    "le": "of at most",
    "multiple_of": "a multiple of",
    "min_length": "with at least",
    "max_length": "with at most",
}


def expected(annotation: Any, metadata: Iterable[Any] = (), *, number: str = "one") -> str:
    """Return what an annotation asks for, in words.

    Parameters
    ----------
    annotation : Any
        The type of a field or of a part of it.
    metadata : iterable
        Constraints of the field, as pydantic keeps them beside the annotation.
    number : {"one", "many"}
        Whether the words name one value or the items of a list.

    Examples
    --------
    >>> expected(tuple[int, ...])
    'a list of whole numbers'
    >>> expected(Literal["flips", "none"])
    'one of "flips", "none"'
    """
    plain, inner = _unwrap(annotation)
    bounds = _bounds((*metadata, *inner))
    return _words(plain, number) + (f" {bounds}" if bounds else "")


def _words(annotation: Any, number: str) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return " or ".join(expected(option, number=number) for option in options)
    if origin is Literal:
        words = ", ".join(show(choice) for choice in arguments)
        return words if len(arguments) == 1 else f"one of {words}"
    if _is_list(annotation):
        return _list_words(origin, arguments, number)
    singular, plural = ("a table", "tables") if _is_table(annotation) else ("a value", "values")
    singular, plural = _NOUNS.get(annotation, (singular, plural))
    return singular if number == "one" else plural


def _list_words(origin: Any, arguments: tuple[Any, ...], number: str) -> str:
    start = "a list" if number == "one" else "lists"
    if not arguments:
        return start
    length = f" {len(arguments)}" if origin is tuple and Ellipsis not in arguments else ""
    items = expected(arguments[0], number="many")
    if items.startswith("one of"):
        return f"{start} of{length or ' words'}, each {items}"
    return f"{start} of{length} {items}"


def _bounds(metadata: Sequence[Any]) -> str:
    limits = {
        name: getattr(constraint, name)
        for constraint in metadata
        for name in _LIMITS
        if getattr(constraint, name, None) is not None
    }
    if "ge" in limits and "le" in limits:
        return f"from {show(limits['ge'])} to {show(limits['le'])}"
    return " and ".join(
        f"{_LIMITS[name]} {show(limit)}" + (" items" if name.endswith("length") else "")
        for name, limit in limits.items()
    )


def fits(annotation: Any, metadata: Iterable[Any], value: Any) -> bool:
    """Return whether a value as TOML gives it has the type an annotation asks for.

    Examples
    --------
    >>> fits(float, (), 3), fits(int, (), 3.0), fits(int, (), True), fits(int, (), "3")
    (True, False, False, False)
    """
    plain, inner = _unwrap(annotation)
    for extra in (*metadata, *inner):
        if isinstance(extra, (PlainValidator, WrapValidator)):
            return True
        if isinstance(extra, BeforeValidator):
            try:
                value = extra.func(value)  # type: ignore[call-arg]  # ours take the value only
            except (TypeError, ValueError):
                return True  # pydantic calls it again and reports what it says
    return _fits_plain(plain, value)


def _fits_plain(annotation: Any, value: Any) -> bool:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(fits(option, (), value) for option in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if _is_list(annotation):
        return isinstance(value, (list, tuple)) and _items_fit(origin, arguments, value)
    if _is_table(annotation):
        return isinstance(value, Mapping)
    return _fits_scalar(annotation, value)


def _fits_scalar(annotation: Any, value: Any) -> bool:
    if annotation is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and not math.isnan(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is Path:
        return isinstance(value, (str, Path)) and str(value) != ""
    return annotation is Any or not isinstance(annotation, type) or isinstance(value, annotation)


def _items_fit(origin: Any, arguments: tuple[Any, ...], value: Sequence[Any]) -> bool:
    if origin is tuple and Ellipsis not in arguments:
        pairs = zip(arguments, value, strict=False)
        return len(value) == len(arguments) and all(fits(kind, (), item) for kind, item in pairs)
    return not arguments or all(fits(arguments[0], (), item) for item in value)


def choices(annotation: Any) -> list[str]:
    """Return the words an annotation allows, for finding the nearest one.

    Examples
    --------
    >>> choices(Literal["all"] | tuple[int, ...])
    ['all']
    """
    plain, _ = _unwrap(annotation)
    if get_origin(plain) is Literal:
        return [choice for choice in get_args(plain) if isinstance(choice, str)]
    return [
        word for option in get_args(plain) if option is not Ellipsis for word in choices(option)
    ]


def holds_path(annotation: Any) -> bool:
    """Return whether an annotation is ``Path``, ``Path | None`` or a list of these."""
    plain, _ = _unwrap(annotation)
    return plain is Path or any(holds_path(part) for part in get_args(plain))


def table_class(field: FieldInfo) -> type[Table] | None:
    """Return the class of the table a field holds (``X`` or ``X | None``), if it holds one."""
    candidates = [field.annotation, *get_args(field.annotation)]
    for candidate in candidates:
        if _is_table_class(candidate):
            return candidate  # type: ignore[no-any-return]  # narrowed by _is_table_class
    return None


def show(value: Any) -> str:
    """Return a value as TOML would write it, shortened if it is long.

    Examples
    --------
    >>> show([True, "a", 1e-05, Path("b")])
    '[true, "a", 1e-05, "b"]'
    """
    text = _toml_text(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 4]} ..."


def _toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_toml_text(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return repr(value)


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return an annotation without ``Annotated``, and what was in it, field infos opened."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    plain, *extras = get_args(annotation)
    metadata: list[Any] = []
    for extra in extras:
        metadata += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    return plain, tuple(metadata)


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return origin in (tuple, list, Sequence)


def _is_table(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return origin in (dict, Mapping) or _is_table_class(annotation)


def _is_table_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Table)
