"""Loading: precedence step by step, paths, and every error of every place in one message.

The tables here are small ones of this test, so that no component's change can break it; what the
real tables make of it is in ``test_schema.py``.
"""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator, model_validator

from instaseg.config.load import load_tables
from instaseg.errors import ConfigError
from instaseg.methods import METHODS
from instaseg.settings import Shape, Table


class Inner(Table):
    """A table in a table."""

    low: int = 0
    """Low."""
    high: int = 10
    """High."""

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError(f"low must not exceed high; got {self.low} and {self.high}")
        return self


class Method(Table):
    """A method with a required key."""

    name: Literal["patches"] = "patches"
    """Name."""
    patch_shape: Shape
    """Required."""


class Training(Table):
    """A table with all kinds of keys."""

    steps: Annotated[int, Field(gt=0)] = 100
    """Whole number."""
    rate: float = 0.5
    """Number."""
    mode: Literal["fast", "exact"] = "fast"
    """Choice."""
    sizes: tuple[int, ...] = (1, 2)
    """List."""
    comment: str = ""
    """Text."""
    inner: Inner = Inner()
    """Table."""
    optional: Inner | None = None
    """Table that is off unless it is named."""

    @field_validator("rate")
    @classmethod
    def _positive(cls, value):
        if value <= 0:
            raise ValueError(f"must be positive; got {value}")
        return value


class Data(Table):
    """A table of paths."""

    folder: Path | None = None
    """One path."""
    files: tuple[Path, ...] = ()
    """More paths."""
    source: Literal["none"] | Path = "none"
    """A word or a path."""


class Toy(Table):
    """All tables."""

    method: Method
    training: Training
    data: Data


def toy_schema(method: str) -> type[Toy]:
    assert method == "patches"
    return Toy


SHAPE = "[method]\npatch_shape = [3, 3]\n"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(*texts: str, overrides=(), cli=None) -> Toy:
    files = [write(f"{'abc'[i]}.toml", text) for i, text in enumerate(texts)]
    return load_tables(toy_schema, files, overrides, cli=cli)


def errors(*texts: str, overrides=(), cli=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*texts, overrides=overrides, cli=cli)
    message = str(caught.value)
    if "\n" not in message:
        return [message]
    head, *lines = message.split("\n- ")
    assert head == f"{len(lines)} errors in the configuration:"
    return lines


# --- precedence, step by step -------------------------------------------------------------------


def steps(*sources: str) -> int:
    """Return ``training.steps`` where each of some sources says something else."""
    values = {"extended": 1, "earlier": 2, "later": 3, "set": 4, "set again": 5, "flag": 6}
    texts = {
        name: f"[training]\nsteps = {values[name]}\n" if name in sources else "[training]\n"
        for name in ("extended", "earlier", "later")
    }
    write("base.toml", SHAPE + texts["extended"])
    # The later file extends base: what is extended must lose even against the earlier file.
    files = [
        write("earlier.toml", texts["earlier"]),
        write("later.toml", f'extends = "base.toml"\n{texts["later"]}'),
    ]
    overrides = [
        f"training.steps={values[name]}" for name in ("set", "set again") if name in sources
    ]
    cli = {"training.steps": 6 if "flag" in sources else None}
    return load_tables(toy_schema, files, overrides, cli=cli).training.steps


@pytest.mark.parametrize(
    ("sources", "winner"),
    [
        ([], 100),
        (["extended"], 1),
        (["extended", "earlier"], 2),
        (["extended", "earlier", "later"], 3),
        (["extended", "earlier", "later", "set"], 4),
        (["extended", "earlier", "later", "set", "set again"], 5),
        (["extended", "earlier", "later", "set", "set again", "flag"], 6),
        (["extended", "later"], 3),
        (["earlier", "set"], 4),
        (["later", "flag"], 6),
    ],
    ids=lambda value: " < ".join(value) if isinstance(value, list) else None,
)
def test_precedence(sources, winner):
    assert steps(*sources) == winner


def test_tables_merge_deeply_and_lists_replace():
    toy = load(
        SHAPE + "[training]\nsteps = 7\nsizes = [5, 6, 7]\n[training.inner]\nlow = 1\nhigh = 2\n",
        "[training]\nsizes = [9]\n[training.inner]\nhigh = 3\n",
        overrides=["training.inner.low=2"],
    )
    assert (toy.training.steps, toy.training.sizes) == (7, (9,))
    assert (toy.training.inner.low, toy.training.inner.high) == (2, 3)


def test_defaults_alone():
    toy = load(SHAPE)
    assert toy == Toy(method=Method(patch_shape=(3, 3)), training=Training(), data=Data())


def test_an_optional_table_is_switched_on_by_its_name():
    assert load(SHAPE).training.optional is None
    assert load(SHAPE + "[training.optional]\n").training.optional == Inner()


def test_the_result_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load(SHAPE).training = Training()


def test_set_takes_plain_words_and_texts_that_look_like_toml():
    toy = load(SHAPE, overrides=["training.mode=exact", "training.comment=2026-01-02"])
    assert toy.training.mode == "exact"
    assert toy.training.comment == "2026-01-02"


# --- paths --------------------------------------------------------------------------------------


def test_paths_in_a_file_are_relative_to_it_and_on_the_command_line_to_here(tmp_path):
    write("deep/base.toml", SHAPE + '[data]\nfolder = "images"\nfiles = ["a.tif", "/b.tif"]\n')
    file = write("own.toml", 'extends = "deep/base.toml"\n')
    toy = load_tables(toy_schema, [file])
    assert toy.data.folder == tmp_path / "deep" / "images"
    assert toy.data.files == (tmp_path / "deep" / "a.tif", Path("/b.tif"))
    for change in (
        {"overrides": ["data.folder=../x"]},
        {"cli": {"data.folder": Path("../x")}},
        {"cli": {"data.folder": "../x"}},
    ):
        toy = load_tables(toy_schema, [file], **change)
        assert toy.data.folder == tmp_path.parent / "x"


def test_home_is_expanded_and_words_stay_words(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    toy = load(SHAPE + '[data]\nfolder = "~/images"\nsource = "none"\n')
    assert toy.data.folder == Path("/home/someone/images")
    assert toy.data.source == "none"


# --- errors -------------------------------------------------------------------------------------


def test_one_error_is_one_line():
    assert errors(SHAPE + "[training]\nsteps = 0\n") == [
        "a.toml [training] steps: must be a whole number greater than 0; got 0"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('steps = "3"', 'steps: must be a whole number greater than 0; got "3"'),
        ("steps = 3.0", "steps: must be a whole number greater than 0; got 3.0"),
        ("steps = true", "steps: must be a whole number greater than 0; got true"),
        ("steps = 2026-01-02", "steps: must be a whole number greater than 0; got 2026-01-02"),
        ("rate = nan", "rate: must be a number; got nan"),
        ("rate = -1", "rate: must be positive; got -1.0"),
        ('mode = "fats"', 'mode: must be one of "fast", "exact"; got "fats"; did you mean "fast"?'),
        ("mode = 3", 'mode: must be one of "fast", "exact"; got 3'),
        ("sizes = 3", "sizes: must be a list of whole numbers; got 3"),
        ("sizes = [1, 2.5]", "sizes: must be a list of whole numbers; got [1, 2.5]"),
        ("comment = 3", "comment: must be text in quotes; got 3"),
        ("inner = 3", "must be a table; got 3"),
        ("inner.low = 11", "low must not exceed high; got 11 and 10"),
    ],
)
def test_wrong_values(line, message):
    (error,) = errors(SHAPE + f"[training]\n{line}\n")
    where = "[training.inner]:" if line.startswith("inner") else "[training]"
    assert error == f"a.toml {where} {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nfolder = 'x'", "[training] folder: unknown key; it belongs to [data]"),
        (
            "[training]\nhigh = 3",
            "[training] high: unknown key; it belongs to [training.inner] or [training.optional]",
        ),
        ("[training]\nstep = 3", "[training] step: unknown key; did you mean 'steps'?"),
        ("[data]\nsizs = 3", "[data] sizs: unknown key; did you mean 'sizes' of [training]?"),
        (
            "[data]\nqqqq = 3",
            "[data] qqqq: unknown key; keys of this table: folder, files, source",
        ),
        ("[trainin]\nsteps = 3", "[trainin]: unknown table; did you mean [training]?"),
        ("[inner]\nlow = 3", "[inner]: unknown table; did you mean [training.inner]?"),
        ("[qqqq]\nlow = 3", "[qqqq]: unknown table; tables here: method, training, data"),
        (
            "[training.inr]\nlow = 3",
            "[training.inr]: unknown table; did you mean [training.inner]?",
        ),
        ("[data.qqqq]\nlow = 3", "[data.qqqq]: unknown table; there is no table here"),
    ],
)
def test_unknown_names_tell_where_they_belong_or_the_nearest(text, message):
    assert errors(SHAPE + text) == [f"a.toml {message}"]


def test_keys_before_the_first_table_tell_their_table():
    assert errors("steps = 3\nqqqq = 3\n" + SHAPE) == [
        "a.toml steps: unknown key; it belongs to [training]",
        "a.toml qqqq: unknown key; keys of this table: none, write a [table] first",
    ]


def test_a_table_that_is_a_value():
    assert errors("data = 3\n" + SHAPE) == ["a.toml [data]: must be a table; got 3"]


def test_a_missing_key_says_what_it_wants():
    assert errors("[training]\nsteps = 3\n") == [
        "a.toml [method] patch_shape: missing; must be a list of whole numbers"
    ]


def test_no_file_at_all():
    assert errors() == [
        "configuration [method] patch_shape: missing; must be a list of whole numbers"
    ]


def test_every_error_of_every_place_is_reported_at_once():
    found = errors(
        "[training]\nstep = 1\nsteps = 0\nmode = 1\n[training.inner]\nlow = 20\n",
        "[traning]\n",
        overrides=["training.rate=x", "rate=3"],
        cli={"data.folder": 3},
    )
    assert sorted(found) == sorted(
        [
            "--set rate=3: must be table.key=value, for example --set training.max_minutes=3; found"
            ' no table before "rate"',
            "a.toml [training] step: unknown key; did you mean 'steps'?",
            'a.toml [training] mode: must be one of "fast", "exact"; got 1',
            "a.toml [training] steps: must be a whole number greater than 0; got 0",
            "b.toml [traning]: unknown table; did you mean [training]?",
            '--set training.rate=x [training] rate: must be a number; got "x"',
            "command line [data] folder: must be a path in quotes; got 3",
            "a.toml [training.inner]: low must not exceed high; got 20 and 10",
            "b.toml [method] patch_shape: missing; must be a list of whole numbers",
        ]
    )


def test_what_an_unreadable_file_may_have_said_is_not_missed():
    """Its `extends` is broken: neither the shape is missing, nor is 20 above its own default."""
    write("base.toml", SHAPE + "[training.inner]\nhigh = [")
    assert errors('extends = "base.toml"\n[training]\nstep = 1\n[training.inner]\nlow = 20\n') == [
        "base.toml, end of file: not valid TOML (invalid value); write key = value, with text in"
        ' "quotes" and lists in [brackets]',
        "a.toml [training] step: unknown key; did you mean 'steps'?",
    ]


def test_a_wrong_value_is_reported_where_it_stands_even_if_it_is_overridden():
    assert errors(SHAPE + "[training]\nsteps = 0\n", "[training]\nsteps = 3\n") == [
        "a.toml [training] steps: must be a whole number greater than 0; got 0"
    ]


def test_values_of_two_files_that_do_not_go_together_name_the_later():
    assert errors(
        SHAPE + "[training.inner]\nlow = 5\n",
        "[training.inner]\nhigh = 4\n",
        "[training]\nsteps = 3\n",
    ) == ["b.toml [training.inner]: low must not exceed high; got 5 and 4"]


def test_a_broken_part_does_not_accuse_the_whole():
    """A wrong `high` must not make 20 exceed its default, nor a wrong shape be missing."""
    found = errors('[method]\npatch_shape = "3"\n[training.inner]\nlow = 20\nhigh = "x"\n')
    assert found == [
        'a.toml [method] patch_shape: must be a list of whole numbers; got "3"',
        'a.toml [training.inner] high: must be a whole number; got "x"',
    ]


@pytest.mark.parametrize("name", ['"patch"', "3"])
def test_an_unknown_method_does_not_accuse_its_keys(name):
    found = errors(f"[method]\nname = {name}\nother = 3\n[training]\nsteps = 0\n")
    hint = '; did you mean "patches"?' if name == '"patch"' else ""
    there = ", ".join(f'"{method}"' for method in METHODS)
    assert found == [
        f"a.toml [method] name: must be one of {there}; got {name}{hint}",
        "a.toml [training] steps: must be a whole number greater than 0; got 0",
    ]


def test_an_unreadable_only_file_is_all_that_is_reported():
    with pytest.raises(ConfigError, match=r"^nowhere\.toml: no such file; no \*\.toml in \.$"):
        load_tables(toy_schema, [Path("nowhere.toml")])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["training.steps", "training.inner", "data.files", "method"]), VALUES)
def test_no_value_raises_anything_but_our_error(name, value):
    with pytest.raises(ConfigError) as caught:  # at least method.patch_shape is missing
        load_tables(toy_schema, [], cli={name: value, "general.x": None})
    assert "pydantic" not in str(caught.value)
