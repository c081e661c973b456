"""Which samples the folds of cross validation hold."""

from pathlib import Path

import numpy as np
import pytest

from instaseg.blockwise.scheduler import Workers
from instaseg.config.load import load_config
from instaseg.errors import ConfigError, DataError
from instaseg.io.arrays import write_array
from instaseg.run.experiment import Experiment
from instaseg.stages.context import Context, Options
from instaseg.stages.folds import find_folds


def write(folder, names):
    for name in names:
        write_array(folder / f"{name}.tif", "", np.zeros((4, 4), np.uint8))


def context(tmp_path, *settings, options=None):
    overrides = ["method.patch_shape=[3, 3]", f"data.test_data={tmp_path / 'data'}", *settings]
    return Context(
        config=load_config([], overrides),
        experiment=Experiment(tmp_path / "experiment"),
        setup_code=tmp_path,
        options=options or Options(),
        workers=Workers(),
    )


def by_name(folds):
    return {fold.name: [sample.name for sample in fold.dataset.samples] for fold in folds}


@pytest.fixture
def split(tmp_path):
    write(tmp_path / "data", "abcd")
    (tmp_path / "split.toml").write_text('one = ["d", "a"]\ntwo = ["b"]\nthree = ["c"]\n')
    return ("validation.folds=split_file", f"validation.split_file={tmp_path / 'split.toml'}")


def test_folds_of_a_split_file(tmp_path, split):
    folds = find_folds(context(tmp_path, *split))
    assert by_name(folds) == {"one": ["a", "d"], "two": ["b"], "three": ["c"]}
    assert {fold.dataset.name for fold in folds} == {"test"}


def test_of_each_fold_as_many_samples_as_asked_for(tmp_path, split):
    few = Options(most_samples=1)
    found = by_name(find_folds(context(tmp_path, *split, options=few)))
    assert found == {"one": ["a"], "two": ["b"], "three": ["c"]}


def test_a_split_file_must_fit_the_data(tmp_path, split):
    write(tmp_path / "data", "e")
    with pytest.raises(DataError, match=r"split.toml: expected every sample in one fold; e in no"):
        find_folds(context(tmp_path, *split))


def test_one_sample_cannot_be_cross_validated(tmp_path, split):
    one = Options(samples=("a",))
    with pytest.raises(ConfigError, match="--sample a: expected all samples"):
        find_folds(context(tmp_path, *split, options=one))


def test_folds_of_folders(tmp_path):
    write(tmp_path / "data" / "left", "ab")
    write(tmp_path / "data" / "right", "c")
    asked = "validation.folds=folders"
    assert by_name(find_folds(context(tmp_path, asked))) == {"left": ["a", "b"], "right": ["c"]}
    write(tmp_path / "data" / "right", "a")
    with pytest.raises(DataError, match="a is in left and right"):
        find_folds(context(tmp_path, asked))


@pytest.mark.parametrize("folders", [["left"], ["images", "masks"]])
def test_too_few_folders(tmp_path, folders):
    for folder in folders:
        write(tmp_path / "data" / folder, "a")
    with pytest.raises(DataError, match=f"two folders of samples .* found {', '.join(folders)};"):
        find_folds(context(tmp_path, "validation.folds=folders"))


def test_a_folder_is_needed(tmp_path):
    asked = ("validation.folds=folders", "validation.folds_of=val_data")
    with pytest.raises(ConfigError, match=r"\[data\] val_data: expected a folder .* found nothing"):
        find_folds(context(tmp_path, *asked))


def test_two_data_sets_are_two_folds(tmp_path):
    write(tmp_path / "data", "a")
    write(tmp_path / "other", "b")
    folds = find_folds(context(tmp_path, f"data.val_data={Path(tmp_path / 'other')}"))
    assert by_name(folds) == {"val": ["b"], "test": ["a"]}
