"""Checkpoints: whole or not at all, safe to read, refused with reasons."""

import errno
import os
import pickle

import pytest
import torch

from instaseg.errors import CheckpointError
from instaseg.training import checkpoints
from instaseg.training.checkpoints import (
    Checkpoint,
    check_architecture,
    checkpoint_digest,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    remove_old_checkpoints,
    save_checkpoint,
)


def _checkpoint(iteration=10):
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}
    return Checkpoint(
        iteration=iteration,
        seconds=1.5,
        weights=weights,
        averaged_weights=weights,
        optimizer={"name": "Adam", "state": {0: {"step": torch.tensor(4.0)}}},
        scaler={},
        config="[model]\nnum_fmaps = 2\n",
        statistics={"lower": [0.0, 1.0], "kind": "percentile"},
        architecture={"ndim": 2, "model.num_fmaps": 2, "model.downsample_factors": [[2, 2]]},
    )


def test_there_and_back(tmp_path):
    path = save_checkpoint(tmp_path / "new", _checkpoint())
    assert path == checkpoint_path(tmp_path / "new", 10)
    found = load_checkpoint(tmp_path / "new")
    torch.testing.assert_close(found.weights, _checkpoint().weights)
    assert found.config == _checkpoint().config
    assert found.statistics == _checkpoint().statistics
    assert found.architecture == _checkpoint().architecture
    assert (found.iteration, found.seconds) == (10, 1.5)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint_00000010.pt"]


def test_digest_follows_the_contents(tmp_path):
    first = checkpoint_digest(save_checkpoint(tmp_path, _checkpoint(1)))
    again = checkpoint_digest(save_checkpoint(tmp_path, _checkpoint(1)))
    other = checkpoint_digest(save_checkpoint(tmp_path, _checkpoint(2)))
    assert first == again != other


def test_listed_in_order_without_strangers(tmp_path):
    for iteration in (100, 20, 9):
        save_checkpoint(tmp_path, _checkpoint(iteration))
    (tmp_path / "checkpoint_00000030.pt.partial").write_bytes(b"killed while writing")
    (tmp_path / "notes.txt").write_text("mine")
    assert list_checkpoints(tmp_path) == [9, 20, 100]
    assert list_checkpoints(tmp_path / "missing") == []
    assert load_checkpoint(tmp_path).iteration == 100
    assert load_checkpoint(tmp_path, 20).iteration == 20


def test_leftover_of_a_killed_run_is_removed(tmp_path):
    leftover = tmp_path / "checkpoint_00000030.pt.partial"
    leftover.write_bytes(b"killed while writing")
    save_checkpoint(tmp_path, _checkpoint())
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("keep", "every", "expected"),
    [
        ("all", 0, [10, 20, 30, 40, 50]),
        (2, 0, [40, 50]),
        (1, 20, [20, 40, 50]),
        (9, 0, [10, 20, 30, 40, 50]),
    ],
)
def test_rule_for_keeping(tmp_path, keep, every, expected):
    for iteration in (10, 20, 30, 40, 50):
        checkpoint_path(tmp_path, iteration).touch()
    remove_old_checkpoints(tmp_path, keep=keep, keep_every=every)
    assert list_checkpoints(tmp_path) == expected


def test_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"found none; run --do train"):
        load_checkpoint(tmp_path)


def test_another_iteration(tmp_path):
    save_checkpoint(tmp_path, _checkpoint(10))
    with pytest.raises(CheckpointError, match=r"iteration 11, found 10; choose one of these"):
        load_checkpoint(tmp_path, 11)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-300])


def _flip(path):
    content = bytearray(path.read_bytes())
    where = content.index(torch.arange(6.0).numpy().tobytes())
    content[where + 5] ^= 1
    path.write_bytes(bytes(content))


def _empty(path):
    path.write_bytes(b"")


def _foreign(path):
    torch.save({"state_dict": {}}, path)


def _plain_pickle(path):
    path.write_bytes(pickle.dumps({"iteration": 3}))


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def _evil(path):
    torch.save({"weights": _Evil()}, path)


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _foreign, _plain_pickle, _evil])
def test_damaged_or_foreign_file(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(tmp_path, _checkpoint())
    damage(path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{path}: expected a whole checkpoint of instaseg, found")
    assert "use another checkpoint (--checkpoint N)" in message
    assert "\n" not in message
    assert not (tmp_path / "owned").exists()


def test_format_of_another_version(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_FORMAT", 99)
    save_checkpoint(tmp_path, _checkpoint())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="expected a checkpoint of format 1, found another"):
        load_checkpoint(tmp_path)


def test_full_disk_leaves_the_old_ones(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, _checkpoint(1))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; \d+ MB are free there"):
        save_checkpoint(tmp_path, _checkpoint(2))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_00000001.pt"]
    assert load_checkpoint(tmp_path).iteration == 1


def test_another_architecture_lists_what_differs():
    expected = {"ndim": 2, "model.num_fmaps": 24, "head affs": "81 channels, sigmoid"}
    found = {"ndim": 2, "model.num_fmaps": 40, "head code": "256 channels, sigmoid"}
    with pytest.raises(CheckpointError) as error:
        check_architecture(found, expected, "x/checkpoint_00000001.pt")
    assert str(error.value) == (
        "x/checkpoint_00000001.pt: the checkpoint is of another architecture than the configuration"
        " describes:\n"
        "  model.num_fmaps: expected 24, found 40\n"
        "  head affs: expected '81 channels, sigmoid', found nothing\n"
        "  head code: expected nothing, found '256 channels, sigmoid'\n"
        "Use the configuration it was trained with, or train a new experiment"
    )
    check_architecture(expected, dict(expected), "same")


def test_weights_of_another_network():
    weights = torch.nn.Conv2d(1, 2, 3).state_dict()
    with pytest.raises(CheckpointError, match=r"weight: expected \[2, 1, 5, 5\], found"):
        load_weights(torch.nn.Conv2d(1, 2, 5), weights, "here")
