"""Text files and the TOML in them."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instaseg.errors import StageError
from instaseg.io.text import to_toml, write_text


@given(st.text())
def test_any_text_comes_back(value):
    """A commit's changes are kept with a run: they hold whatever people write in sources."""
    values = {"run": [{"command": [value, "a"], "code": {"diff": value}}]}
    assert tomllib.loads(to_toml(values)) == values
    numbers = {"checkpoints": {"1000": {"score": -0.1, "values": {"vote_instances.a": 1e-7}}}}
    assert tomllib.loads(to_toml(numbers)) == numbers


@pytest.mark.parametrize("text", ["\\x41", "\\\\x", "\x00", "\x1b[31m", "\x7f", 'a"b', "\n\t\\"])
def test_text_that_is_easily_quoted_wrong(text):
    assert tomllib.loads(to_toml({"diff": text}))["diff"] == text


def test_bytes_that_are_no_text_become_question_marks():
    """So arrive file names that are not UTF-8, from the command line."""
    broken = b"a\xff".decode("utf-8", errors="surrogateescape")
    assert tomllib.loads(to_toml({"command": broken}))["command"] == "a?"


def test_files_are_whole_or_as_they_were(tmp_path):
    file = tmp_path / "new" / "a.toml"
    write_text(file, "first")
    write_text(file, "second")
    assert file.read_text() == "second"
    assert [path.name for path in file.parent.iterdir()] == ["a.toml"]
    (tmp_path / "folder" / "b").mkdir(parents=True)
    with pytest.raises(StageError, match=r"b: cannot be written \(.*\); free space"):
        write_text(tmp_path / "folder" / "b", "text")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["b"]
