"""Types in words, and whether TOML values fit them."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field, PlainValidator

from instaseg.config.kinds import choices, expected, fits, holds_path, show, table_class
from instaseg.settings import Shape, Table

Share = Annotated[float, Field(ge=0, le=1)]
Split = Annotated[tuple[str, ...], BeforeValidator(lambda value: value.split(","))]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (bool, "true or false"),
        (float | None, "a number"),
        (Path | None, "a path in quotes"),
        (tuple[int, ...], "a list of whole numbers"),
        (tuple[float, float], "a list of 2 numbers"),
        (tuple[tuple[int, ...], ...], "a list of lists of whole numbers"),
        (list, "a list"),
        (dict[str, int], "a table"),
        (list[dict[str, int]], "a list of tables"),
        (Sequence[bytes], "a list of values"),
        (Literal["a", "b"], 'one of "a", "b"'),
        (Literal["a"], '"a"'),
        (tuple[Literal[1, 2], ...], "a list of words, each one of 1, 2"),
        (Literal["all"] | tuple[int, ...], '"all" or a list of whole numbers'),
        (Shape, "a list of whole numbers"),
        (Share, "a number from 0 to 1"),
        (tuple[Share, ...], "a list of numbers from 0 to 1"),
        (Annotated[int, Field(gt=0)], "a whole number greater than 0"),
        (
            Annotated[int, Field(ge=1, multiple_of=2)],
            "a whole number of at least 1 and a multiple of 2",
        ),
        (
            Annotated[tuple[int, ...], Field(min_length=1)],
            "a list of whole numbers with at least 1 items",
        ),
        (Any, "a value"),
    ],
)
def test_expected_says_what_a_type_wants(annotation, words):
    assert expected(annotation) == words


@pytest.mark.parametrize(
    ("annotation", "value", "answer"),
    [
        (int, 3, True),
        (int, 3.0, False),
        (int, True, False),
        (int, "3", False),
        (float, 3, True),
        (float, float("inf"), True),
        (float, float("nan"), False),
        (float, True, False),
        (bool, True, True),
        (bool, 1, False),
        (bool, "yes", False),
        (str, "a", True),
        (str, 1, False),
        (str, date(2026, 1, 2), False),
        (Path, "a", True),
        (Path, "", False),
        (Path, 3, False),
        (tuple[int, ...], [1, 2], True),
        (tuple[int, ...], [1, 2.5], False),
        (tuple[int, ...], 1, False),
        (tuple[float, float], [1, 2, 3], False),
        (tuple[float, float], [1, 2], True),
        (list, [1, "a"], True),
        (tuple[tuple[int, ...], ...], [[1], [2, 3]], True),
        (tuple[tuple[int, ...], ...], [[1], 2], False),
        (Literal["a", "b"], "a", True),
        (Literal["a", "b"], "c", False),
        (Literal[1, 2], True, False),
        (Literal["all"] | tuple[int, ...], "all", True),
        (Literal["all"] | tuple[int, ...], [1], True),
        (Literal["all"] | tuple[int, ...], "some", False),
        (float | None, 0.5, True),
        (float | None, "a", False),
        (dict[str, int], {"a": 1}, True),
        (dict[str, int], [1], False),
        (Any, "anything", True),
        (Shape, [1, 25, 25], True),
        (Shape, [25, "25"], False),
        (Shape, 25, False),
        (Annotated[int, PlainValidator(int)], "3", True),
        (Split, "a,b", True),
        (Annotated[int, BeforeValidator(int)], "no number", True),  # pydantic reports it
    ],
)
def test_fits_means_what_the_file_says(annotation, value, answer):
    assert fits(annotation, (), value) is answer


def test_choices_looks_into_unions_and_lists():
    assert choices(tuple[Literal["a", "b"], ...] | Literal["c"] | None) == ["a", "b", "c"]
    assert choices(int) == []


def test_holds_path():
    assert holds_path(Path | None)
    assert holds_path(tuple[Path, ...])
    assert not holds_path(str | None)


def test_show_writes_toml_and_shortens():
    assert show({"a": True, "b": date(2026, 1, 2)}) == "{ a = true, b = 2026-01-02 }"
    assert show({}) == "{}"
    assert show('say "é"') == '"say \\"é\\""'
    assert show(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1 ..."


def test_table_class_of_plain_optional_and_other_fields():
    class Inner(Table):
        """Inner."""

    class Outer(Table):
        """Outer."""

        plain: Inner
        optional: Inner | None = None
        number: int = 0

    found = {name: table_class(info) for name, info in Outer.model_fields.items()}
    assert found == {"plain": Inner, "optional": Inner, "number": None}
