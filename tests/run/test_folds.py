"""Split files: what they may look like, and samples that are in no fold or in two."""

import pytest

from instaseg.errors import ConfigError, DataError
from instaseg.run.folds import check_folds, dealt, read_folds

TWO = {"one": ("a", "b"), "two": ("c",)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("split.toml", 'train = ["x"]\none = ["a", "b"]\ntwo = ["c"]\n'),
        ("split.toml", 'note = "of the authors"\n[folds]\none = ["a", "b"]\ntwo = ["c"]\n'),
        ("split.csv", "sample,fold\na,one\nc,two\nb,one\nx,train\n"),
        ("split.CSV", "fold, sample\none, a\none, b\ntwo, c\n"),
    ],
)
def test_layouts_of_a_split_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_folds(tmp_path / name) == TWO


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "one = [", "a.toml: not valid TOML"),
        (
            "a.toml",
            "one = 3",
            r'one: expected a list of sample names such as \["a", "b"\], found 3',
        ),
        ("a.toml", "one = []\ntwo = ['a']", "one: expected a list of sample names"),
        ("a.toml", "folds = 3", "folds must be a table; found 3"),
        ("a.toml", "one = ['a']\ntrain = ['b']", "expected at least two folds, found one;"),
        ("a.csv", "name,fold\na,one", "expected the columns sample and fold, found name, fold"),
        ("a.csv", "sample,fold\na,one\nb", "line 3: expected a sample and its fold, found sample"),
        ("a.csv", "", "expected the columns sample and fold, found none"),
        ("a.txt", "", "expected a file ending in .toml or .csv, found '.txt'"),
    ],
)
def test_broken_split_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_folds(tmp_path / name)


def test_missing_split_file(tmp_path):
    with pytest.raises(ConfigError, match=r"gone.toml cannot be read \(No such file"):
        read_folds(tmp_path / "gone.toml")


def test_every_sample_is_in_one_fold():
    check_folds(TWO, ["a", "b", "c"], "split.toml")
    with pytest.raises(DataError) as caught:
        check_folds({"one": ["a", "b", "a1"], "two": ["b"]}, ["a", "b", "c", "d"], "split.toml")
    assert str(caught.value) == (
        "split.toml: expected every sample in one fold; b is in one and two: remove it from all but"
        " one; one names a1, no such sample in the data set (did you mean a?); c, d in no fold: add"
        " to one"
    )


def test_long_lists_are_cut():
    names = [f"s{number:02d}" for number in range(14)]
    with pytest.raises(DataError, match=r"s02, .*, s11 and 2 more in no fold"):
        check_folds({"one": ["s00"], "two": ["s01"]}, names, "split.toml")


def test_names_are_dealt_evenly_and_always_alike():
    names = [f"image{number:03d}" for number in range(11)]
    folds = dealt(names, 3, where="data")
    assert sorted(map(len, folds)) == [3, 4, 4]
    assert sorted(name for fold in folds for name in fold) == names
    assert dealt(names[::-1], 3, where="data") == folds
    # Neighbours come apart: no fold is a run of the series.
    assert all(sorted(fold) != names[i : i + len(fold)] for fold in folds for i in range(11))


def test_there_must_be_a_name_for_each_fold():
    with pytest.raises(DataError, match=r"data: expected at least 3 samples because data.split"):
        dealt(["a", "b"], 3, where="data")
