"""Training with codes: from a decoder that was trained before, frozen or not, and gone on with."""

import logging
from types import SimpleNamespace

import pytest
import torch

from instaseg.config.load import load_config
from instaseg.stages.train import changed_validation
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint
from instaseg.training.ranks import ALONE

# 5 is halved to 3 and 2: a code of two maps of 2 x 2.
CODES = [
    'method.prediction="codes"',
    "method.code.code_units=8",
    "method.code.decoder_fmaps=[4, 4]",
    "method.code.patches_per_crop=20",
    "training.checkpoints=2",
    "training.val_log_step=2",
    "training.schedule=constant",
    "training.warmup=0",
]


@pytest.fixture
def train(run, tmp_path):
    """Return a function that trains with codes, in a new experiment or one that goes on."""

    def call(words, *settings, iterations=2, experiment=None):
        where = ["--root", tmp_path / "runs"] if experiment is None else ["-id", experiment]
        sets = [*CODES, f"training.max_iterations={iterations}", *settings]
        flags = [word for value in sets for word in ("--set", value)]
        return run("--app", "tiny", *where, "--do", *words, *flags)

    return call


def decoder(checkpoint, kind="weights"):
    """Return the weights of the decoder in a checkpoint."""
    weights = getattr(checkpoint, kind)
    return {name: weight for name, weight in weights.items() if name.startswith("decoder.")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_train_begins_with_the_autoencoder_and_leaves_a_frozen_decoder(train):
    done = train(["train_autoencoder", "train"], 'method.code.decoder_training="frozen"')
    assert done.code == 0, done.err
    assert "train_autoencoder: 2 iterations" in done.out
    autoencoder = load_checkpoint(done.experiment / "autoencoder" / "checkpoints")
    assert any(name.startswith("encoder.") for name in autoencoder.weights)
    trained = load_checkpoint(done.experiment / "train" / "checkpoints")
    expected = decoder(autoencoder, "averaged_weights")
    assert expected
    assert same(decoder(trained), expected)
    assert same(decoder(trained, "averaged_weights"), expected)

    # Elsewhere it is named; not frozen, it goes on learning.
    named = f"method.code.autoencoder_chkpt={done.experiment / 'autoencoder'}"
    other = train(["train"], named, iterations=1)
    assert other.code == 0, other.err
    assert not same(decoder(load_checkpoint(other.experiment / "train" / "checkpoints")), expected)

    wrong = train(["train"], named, "method.code.decoder_fmaps=[4, 5]")
    assert wrong.code == 2
    assert "method.code.decoder_fmaps: expected [4, 5], found [4, 4]" in wrong.err


def test_gone_on_with_the_weights_are_the_same(train):
    """Also what is drawn: patches for the autoencoder, and sites where codes are decoded."""
    words = ["train_autoencoder", "train"]
    # Without an autoencoder to begin with, lest that of two iterations makes the difference.
    whole = [train([word], iterations=4) for word in words]
    for word, folder, at_once in zip(words, ["autoencoder", "train"], whole, strict=True):
        assert at_once.code == 0, at_once.err
        first = train([word], iterations=2)
        second = train([word], iterations=4, experiment=first.experiment)
        assert second.code == 0, second.err
        folders = [run.experiment / folder / "checkpoints" for run in (at_once, first)]
        assert [list_checkpoints(there) for there in folders] == [[2, 4], [2, 4]]
        one, other = map(load_checkpoint, folders)
        assert same(one.weights, other.weights)
        assert same(one.averaged_weights, other.averaged_weights)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "method.code.autoencoder_chkpt=/nowhere/a.pt",
            "[method.code] autoencoder_chkpt: expected a checkpoint or a folder of checkpoints,"
            " found none at /nowhere/a.pt",
        ),
        (
            'method.code.decoder_training="frozen"',
            '[method.code] decoder_training = "frozen": expected a trained autoencoder, found none',
        ),
    ],
)
def test_what_is_missing_is_said_before_any_work(train, tmp_path, setting, message):
    done = train(["train"], setting)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "runs").exists()


def test_without_codes_there_is_nothing_to_do(run, tmp_path):
    done = run("--app", "tiny", "--root", tmp_path, "--do", "train_autoencoder")
    assert done.code == 0, done.err
    assert "this setup has no codes; nothing to do" in done.err


@pytest.mark.parametrize("stage", ["train", "train_autoencoder"])
def test_a_missing_validation_loss_is_told_by_the_stage_that_lacks_it(stage, caplog):
    config = load_config([], ["method.patch_shape=[3, 3]", "training.val_log_step=0"])
    context = SimpleNamespace(config=config, ranks=ALONE)
    with caplog.at_level(logging.INFO):
        assert changed_validation(context, None, None, stage=stage) == []
    assert caplog.messages == [f"{stage}: no validation loss (no val_data, or val_log_step = 0)"]
