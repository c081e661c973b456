"""Part of the training samples held out for validation, and what needs a validation loss."""

from dataclasses import replace

import pytest

from instaseg.blockwise.scheduler import Workers
from instaseg.config.load import load_config
from instaseg.errors import ConfigError
from instaseg.run.experiment import Experiment
from instaseg.stages.context import Context, Options
from instaseg.stages.plan import check_network
from instaseg.stages.table import expand
from instaseg.stages.training_data import training_data

TRAIN = ["0402a8", "04acab", "150b0f"]


@pytest.fixture
def context(workspace, tmp_path):
    """Return a function from values of keys to a context of the app ``tiny``."""
    file = workspace / "experiments" / "tiny" / "setups" / "setup01" / "default.toml"

    def make(*overrides):
        config = load_config([file], overrides)
        return Context(config, Experiment(tmp_path), file.parent, Options(), Workers(1))

    return make


def names(dataset):
    return [sample.name for sample in dataset.samples]


def test_each_part_validates_once_and_never_trains_then(context):
    seen = []
    for fold in (1, 2, 3):
        of_fold = context("data.split.folds=3", f"data.split.fold={fold}")
        held_out = names(of_fold.dataset("val"))
        assert sorted(names(of_fold.dataset("train")) + held_out) == TRAIN
        seen += held_out
    assert sorted(seen) == TRAIN


def test_test_data_and_stand_ins_are_not_divided_twice(context):
    of_fold = context("data.split.folds=3")
    assert names(of_fold.dataset("test")) == names(context().dataset("test"))
    on_train = replace(of_fold, options=Options(stands_in={"val": "train"}))
    assert names(on_train.dataset("val")) == names(of_fold.dataset("train"))


def test_a_fold_that_there_is_not_is_refused(context):
    with pytest.raises(ConfigError, match="fold must be at most folds; got 4 of 3"):
        context("data.split.folds=3", "data.split.fold=4")


def test_filters_concern_training_alone(context):
    half = context("data.filters.foreground=[0, 0.2]")
    kept = names(training_data(half))
    assert 0 < len(kept) < 3
    assert names(half.dataset("val")) == names(context().dataset("val"))


@pytest.mark.parametrize("key", ["patience=2", "schedule=plateau"])
def test_without_a_validation_loss_nothing_can_be_waited_for(context, key):
    key = f"training.{key}"
    check_network(expand(["train"]), context(key))
    message = rf"\[training\] {key.partition('=')[0][9:]}: expected a validation loss"
    with pytest.raises(ConfigError, match=message):
        check_network(expand(["train"]), context(key, "training.val_log_step=0"))


def test_tiles_that_are_mostly_halo_are_warned_of(context, caplog):
    from instaseg.stages import mknet

    mknet.run(context("model.test_input_shape=[64, 64]"))
    assert "model.test_input_shape = [64, 64]: of a tile" in caplog.text
    better = caplog.text.partition("with [")[2].partition("]")[0]
    caplog.clear()
    mknet.run(context(f"model.test_input_shape=[{better}]"))
    assert "of a tile" not in caplog.text
