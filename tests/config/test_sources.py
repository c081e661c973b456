"""Reading files, what they extend, ``--set`` strings and flags, without knowing any table."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instaseg.config.sources import flags_layer, read_files, read_overrides


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def read(*files):
    problems: list[str] = []
    return read_files(files, problems), problems


def test_named_files_come_after_everything_that_is_extended(tmp_path):
    write(
        tmp_path,
        oldest="a.x = 1",
        base='extends = "oldest.toml"\na.x = 2',
        other="a.x = 3",
        first='extends = "base.toml"\na.x = 4',
        second='extends = "other.toml"\na.x = 5',
    )
    layers, problems = read(tmp_path / "first.toml", tmp_path / "second.toml")
    names = [Path(layer.origin).name for layer in layers]
    assert names == ["oldest.toml", "base.toml", "other.toml", "first.toml", "second.toml"]
    assert [layer.tables["a"]["x"] for layer in layers] == [1, 2, 3, 4, 5]
    assert problems == []


def test_extends_is_relative_to_the_file_that_names_it(tmp_path):
    (tmp_path / "below").mkdir()
    write(tmp_path, base="a.x = 1")
    write(tmp_path / "below", own='extends = "../base.toml"')
    layers, problems = read(tmp_path / "below" / "own.toml")
    assert problems == []
    assert [layer.folder for layer in layers] == [tmp_path, tmp_path / "below"]


def test_a_circle_of_extends_is_refused_with_the_chain(tmp_path):
    write(tmp_path, a='extends = "b.toml"', b='extends = "c.toml"', c='extends = "b.toml"')
    _, problems = read(tmp_path / "a.toml")
    b, c = tmp_path / "b.toml", tmp_path / "c.toml"
    assert problems == [
        f'{c}: "extends" must not lead back to the same file; found {b} -> {c} -> {b};'
        " remove one of these lines"
    ]


def test_a_file_that_extends_itself_is_refused(tmp_path):
    write(tmp_path, a='extends = "a.toml"')
    _, problems = read(tmp_path / "a.toml")
    assert len(problems) == 1
    assert "must not lead back to the same file" in problems[0]


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, default="", own='extends = "defalt.toml"')
    _, problems = read(tmp_path / "own.toml", tmp_path / "defaul.toml")
    assert problems == [
        f'{tmp_path}/own.toml: extends "defalt.toml", but there is no such file; did you mean'
        " default.toml?; the path is relative to the file that names it",
        f"{tmp_path}/defaul.toml: no such file; did you mean default.toml?",
    ]


def test_a_missing_file_in_an_empty_folder_or_far_from_all_names(tmp_path):
    _, problems = read(tmp_path / "a.toml")
    assert problems == [f"{tmp_path}/a.toml: no such file; no *.toml in {tmp_path}"]
    write(tmp_path, zzz="", yyy="")
    _, problems = read(tmp_path / "a.toml")
    assert problems == [f"{tmp_path}/a.toml: no such file; there are yyy.toml, zzz.toml"]


@pytest.mark.parametrize("value", ["3", '["a.toml"]', '""'])
def test_extends_must_be_a_path(tmp_path, value):
    write(tmp_path, a=f"extends = {value}")
    _, problems = read(tmp_path / "a.toml")
    assert problems == [f'{tmp_path}/a.toml: "extends" must be the path of a file; got {value}']


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[training]\nlr = = 3", "line 2, column 6", "write key = value"),
        ("a = [1, 2", "end of file", "write key = value"),
        ("[a]\nx = 1\nx = 2\n", "line 3, column 6", "only once"),
        ("[a]\nx = 1\n[a]\ny = 2", "line 3, column 3", "only once"),
        ("foreground = centre", "line 1, column 14", 'text in "quotes"'),
    ],
)
def test_broken_toml_says_where_and_what_to_do(tmp_path, text, place, hint):
    write(tmp_path, a=text)
    layers, problems = read(tmp_path / "a.toml")
    assert layers == []
    (problem,) = problems
    assert problem.startswith(f"{tmp_path}/a.toml, {place}: not valid TOML (")
    assert hint in problem


def test_files_that_are_no_text_or_no_files(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    (tmp_path / "folder.toml").mkdir()
    _, problems = read(tmp_path / "latin.toml", tmp_path / "folder.toml")
    assert problems == [
        f"{tmp_path}/latin.toml: must be a text file in UTF-8; byte 5 is not; save it as UTF-8",
        f"{tmp_path}/folder.toml: must be a TOML file; found a folder",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("centre", "centre"),
        ("a=b", "a=b"),
        ("[1, 2", "[1, 2"),
        ("1\nother = 2", "1\nother = 2"),
        ("{ a = 1 }", {"a": 1}),
        (" spaced ", "spaced"),
    ],
)
def test_set_reads_toml_and_takes_the_rest_as_text(text, value):
    problems: list[str] = []
    (layer,) = read_overrides([f"training.key={text}"], problems)
    assert layer.tables == {"training": {"key": value}}
    assert layer.origin == f"--set training.key={text}"
    assert problems == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("training.lr", "found no ="),
        ("training.lr=", "found no value (an empty text is '\"\"')"),
        ("lr=3", 'found no table before "lr"'),
        ("training..lr=3", '"training..lr" is not a table and a key'),
        ("=3", 'found no table before ""'),
        ("", "found no ="),
    ],
)
def test_set_that_is_no_table_key_value_is_refused(text, fault):
    problems: list[str] = []
    assert read_overrides([text], problems) == []
    assert problems == [
        f"--set {text}: must be table.key=value, for example --set training.max_minutes=3; {fault}"
    ]


@given(st.text())
def test_set_never_raises(text):
    problems: list[str] = []
    layers = read_overrides([text, f"a.b={text}"], problems)
    assert len(layers) + len(problems) == 2


def test_flags_leave_out_what_was_not_given():
    layer = flags_layer({"data.train_data": Path("a"), "data.ndim": None, "general.seed": 3})
    assert layer.tables == {"data": {"train_data": "a"}, "general": {"seed": 3}}
    assert layer.origin == "command line"
