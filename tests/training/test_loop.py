"""The loop: same weights whether interrupted or not, honest stops, a log without repetitions."""

import logging
import math
import signal
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from instaseg.errors import CheckpointError, DataError, StageError
from instaseg.methods.base import Head
from instaseg.models.config import ModelSettings
from instaseg.models.network import build_network
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint
from instaseg.training.config import OptimizerSettings, TrainingSettings
from instaseg.training.logs import read_log
from instaseg.training.loop import TrainingRun, train
from instaseg.training.snapshots import SnapshotWriter

CPU = torch.device("cpu")
FG = Head("fgbg", 1, "sigmoid", "volumes/pred_fgbg")
MODEL = ModelSettings(
    num_fmaps=2,
    downsample_factors=((2, 2),),
    num_repetitions=1,
    normalization="batch",
    train_input_shape=(16, 16),
    test_input_shape=(16, 16),
)
SETTINGS = TrainingSettings(
    max_iterations=6,
    checkpoints=3,
    log_step=1,
    val_log_step=2,
    snapshots=0,
    warmup=0.2,
    weight_averaging=0.9,
    precision="float32",
)


class Killed(BaseException):
    """Ends the loop as a kill would: nothing is saved on the way out."""


def _network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(MODEL, in_channels=1, ndim=2, heads=[FG])


def _batch(iteration):
    random = torch.Generator().manual_seed(iteration)
    raw = torch.rand(2, 1, 16, 16, generator=random)
    return {"raw": raw, "labels": (raw[:, 0, 4:12, 4:12] > 0.5).long()}


def _batches(first):
    while True:
        yield _batch(first)
        first += 1


def _loss(outputs, batch):
    """Cross entropy of randomly chosen pixels, so that random numbers matter."""
    chosen = torch.rand(batch["labels"].shape) < 0.5
    logits = outputs["fgbg"][:, 0].float()
    target = batch["labels"].float()
    part = binary_cross_entropy_with_logits(logits[chosen], target[chosen])
    return 2 * part, {"foreground": part}


def _run(folder, optimizer="AdamW", **changes):
    return TrainingRun(
        folder=folder,
        settings=SETTINGS.model_copy(update=changes),
        optimizer=OptimizerSettings(optimizer=optimizer, lr=0.01),
        device=CPU,
        seed=3,
        config="[model]",
        statistics={"mean": 0.5},
        architecture={"ndim": 2},
    )


def _train(folder, *, batches=_batches, loss=_loss, optimizer="AdamW", network=None, **changes):
    return train(
        network or _network(),
        loss,
        run=_run(folder, optimizer, **changes),
        batches=batches,
        validation=[_batch(100), _batch(101)],
    )


def _killed_at(iteration):
    def batches(first):
        for number, batch in enumerate(_batches(first), start=first + 1):
            if number == iteration:
                raise Killed
            yield batch

    return batches


def _assert_same(one, other):
    assert one.iteration == other.iteration
    for name in ("weights", "averaged_weights"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.keys() == second.keys()
        for key in first:
            assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
def test_killed_and_started_again_gives_the_same_weights(tmp_path, optimizer):
    """Killed in iteration 5, the run goes on from the checkpoint of iteration 3."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert _train(whole, optimizer=optimizer) == 6
    with pytest.raises(Killed):
        _train(cut, batches=_killed_at(5), optimizer=optimizer)
    assert list_checkpoints(cut / "checkpoints") == [3]
    # Another start would show if anything but the checkpoint mattered.
    assert _train(cut, optimizer=optimizer, network=_network(seed=1)) == 6
    _assert_same(load_checkpoint(whole / "checkpoints"), load_checkpoint(cut / "checkpoints"))

    logs = [read_log(folder / "logs" / "log.csv") for folder in (whole, cut)]
    for row in (*logs[0], *logs[1]):
        del row["seconds"]
    assert logs[0] == logs[1]


def test_the_same_holds_for_bfloat16(tmp_path):
    changes = {"precision": "bfloat16", "memory_format": "channels_last"}
    with pytest.raises(Killed):
        _train(tmp_path / "cut", batches=_killed_at(5), **changes)
    _train(tmp_path / "cut", **changes)
    _train(tmp_path / "whole", **changes)
    _assert_same(
        load_checkpoint(tmp_path / "whole" / "checkpoints"),
        load_checkpoint(tmp_path / "cut" / "checkpoints"),
    )


def test_checkpoint_holds_what_prediction_needs(tmp_path):
    _train(tmp_path)
    found = load_checkpoint(tmp_path / "checkpoints")
    assert (found.config, found.statistics, found.architecture) == (
        "[model]",
        {"mean": 0.5},
        {"ndim": 2},
    )
    assert not torch.equal(
        found.weights["heads.fgbg.weight"], found.averaged_weights["heads.fgbg.weight"]
    )


def test_random_numbers_of_the_caller_are_left_alone(tmp_path):
    before = torch.random.get_rng_state()
    _train(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


def test_log(tmp_path):
    _train(tmp_path)
    rows = read_log(tmp_path / "logs" / "log.csv")
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss"] == pytest.approx(2 * row["loss_foreground"]) for row in rows)
    assert ["validation_loss" in row for row in rows] == [False, True] * 3
    # Warm-up over 1.2 of 6 iterations: none of it is done, then 1/6 of the budget is used.
    assert [row["learning_rate"] for row in rows[:2]] == pytest.approx([0, 0.01 * (1 / 6) / 0.2])


def test_rows_are_means_over_their_interval(tmp_path):
    _train(tmp_path / "each")
    _train(tmp_path / "three", log_step=3, val_log_step=0)
    each = read_log(tmp_path / "each" / "logs" / "log.csv")
    three = read_log(tmp_path / "three" / "logs" / "log.csv")
    assert [row["iteration"] for row in three] == [3, 6]
    assert three[0]["loss"] == pytest.approx(sum(row["loss"] for row in each[:3]) / 3)


def test_validation_does_not_change_training(tmp_path):
    _train(tmp_path / "with")
    _train(tmp_path / "without", val_log_step=0)
    _assert_same(
        load_checkpoint(tmp_path / "with" / "checkpoints"),
        load_checkpoint(tmp_path / "without" / "checkpoints"),
    )


def test_training_learns(tmp_path):
    _train(tmp_path, max_iterations=60, checkpoints=60, val_log_step=0, log_step=10)
    rows = read_log(tmp_path / "logs" / "log.csv")
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_finished_training_is_not_repeated(tmp_path):
    _train(tmp_path)

    def never(first):
        raise AssertionError(first)

    assert _train(tmp_path, batches=never) == 6


def test_budget_in_minutes_counts_earlier_runs(tmp_path, monkeypatch):
    """Every look at the clock takes a second: 1.5 minutes are over after at most 90 looks."""
    now = iter(range(10**6))
    clock = SimpleNamespace(perf_counter=lambda: float(next(now)))
    monkeypatch.setattr("instaseg.training.loop.time", clock)
    done = _train(tmp_path, max_iterations=10**6, max_minutes=1.5, checkpoints=5)
    assert 5 < done < 90
    seconds = load_checkpoint(tmp_path / "checkpoints").seconds
    assert seconds >= 90
    assert _train(tmp_path, max_iterations=10**6, max_minutes=1.5) == done
    assert _train(tmp_path, max_iterations=10**6, max_minutes=2.0) > done


def test_checkpoints_are_kept_by_rule(tmp_path):
    _train(tmp_path, checkpoints=1, keep_checkpoints=2, keep_every=3)
    assert list_checkpoints(tmp_path / "checkpoints") == [3, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_a_checkpoint(tmp_path, number):
    """The signal comes while batch 3 is awaited: two iterations are done and saved."""

    def batches(first):
        for iteration, batch in enumerate(_batches(first), start=first + 1):
            if iteration == 3:
                signal.raise_signal(number)
            yield batch

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "cut", batches=batches)
    assert signal.getsignal(number) is before
    assert list_checkpoints(tmp_path / "cut" / "checkpoints") == [2]
    _train(tmp_path / "cut")
    _train(tmp_path / "whole")
    _assert_same(
        load_checkpoint(tmp_path / "cut" / "checkpoints"),
        load_checkpoint(tmp_path / "whole" / "checkpoints"),
    )


def test_loader_that_dies_of_the_same_signal(tmp_path):
    def batches(first):
        yield _batch(first)
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("worker exited unexpectedly")

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, batches=batches)
    assert list_checkpoints(tmp_path / "checkpoints") == [1]


def test_second_interruption_does_not_wait(tmp_path):
    def batches(first):
        yield _batch(first)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, batches=batches)
    assert list_checkpoints(tmp_path / "checkpoints") == [1]


def test_error_of_the_loader_is_passed_on(tmp_path):
    def batches(first):
        yield _batch(first)
        raise DataError("sample A03: broken chunk")

    with pytest.raises(DataError, match="A03"):
        _train(tmp_path, batches=batches)


def test_loader_that_ends(tmp_path):
    with pytest.raises(StageError, match=r"iteration 2: expected a batch, found the end"):
        _train(tmp_path, batches=lambda first: iter([_batch(first)]))


def _loss_that_breaks(outputs, batch):
    total, parts = _loss(outputs, batch)
    broken = parts["foreground"] * (math.nan if batch["raw"].sum() == _batch(4)["raw"].sum() else 1)
    return total + broken, {**parts, "walls": broken}


def test_loss_that_is_not_a_number_stops_training(tmp_path):
    with pytest.raises(StageError) as error:
        _train(tmp_path, loss=_loss_that_breaks)
    assert str(error.value) == (
        "training, iteration 5: expected a finite loss, found nan in walls (the last checkpoint, of"
        " iteration 3, is good); set optimizer.lr lower than 0.01, training.gradient_clip lower, or"
        ' training.precision = "float32"'
    )
    weights = load_checkpoint(tmp_path / "checkpoints").weights
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_images_that_are_not_numbers(tmp_path):
    def batches(first):
        yield {**_batch(first), "raw": torch.full((2, 1, 16, 16), math.nan)}

    with pytest.raises(StageError, match=r"nan in foreground \(none saved\).*mend the images"):
        _train(tmp_path, batches=batches)


def test_gradient_that_overflows_stops_before_the_weights_are_spoilt(tmp_path):
    def loss(outputs, _):
        total = outputs["fgbg"].mean() * 0
        return total + torch.sqrt(total.abs()), {}

    network = _network()
    with pytest.raises(StageError, match="in the gradient's norm"):
        _train(tmp_path, loss=loss, network=network)
    assert all(torch.isfinite(weight).all() for weight in network.parameters())


def test_another_architecture_is_refused(tmp_path):
    _train(tmp_path)
    run = _run(tmp_path, max_iterations=9)
    other = TrainingRun(**{**run.__dict__, "architecture": {"ndim": 3}})
    with pytest.raises(CheckpointError, match="ndim: expected 3, found 2"):
        train(_network(), _loss, run=other, batches=_batches)


def test_another_optimizer_is_refused(tmp_path):
    _train(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected the state of SGD .* found that of AdamW"):
        _train(tmp_path, optimizer="SGD", max_iterations=9)


def test_changed_settings_hold_after_a_restart(tmp_path):
    _train(tmp_path)
    run = _run(tmp_path, max_iterations=8, warmup=0.0, schedule="constant")
    optimizer = OptimizerSettings(optimizer="AdamW", lr=0.5)
    train(
        _network(),
        _loss,
        run=TrainingRun(**{**run.__dict__, "optimizer": optimizer}),
        batches=_batches,
    )
    rates = [row["learning_rate"] for row in read_log(tmp_path / "logs" / "log.csv")]
    assert rates[6:] == [0.5, 0.5]


def test_snapshots(tmp_path):
    zarr = pytest.importorskip("zarr")
    train(
        _network(),
        _loss,
        run=_run(tmp_path, snapshots=4),
        batches=_batches,
        write_snapshot=SnapshotWriter(tmp_path / "snapshots", [FG]),
    )
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["00000004.zarr"]
    group = zarr.open_group(str(tmp_path / "snapshots" / "00000004.zarr"), mode="r")
    assert group["volumes/raw"].shape == (1, 16, 16)
    assert group["volumes/labels"].shape == (8, 8)
    prediction = group["volumes/pred_fgbg"][:]
    assert prediction.shape == (1, 8, 8)
    assert ((prediction > 0) & (prediction < 1)).all()


def test_progress_is_logged_where_there_is_no_terminal(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("instaseg.training.loop._SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO):
        _train(tmp_path)
    assert "training: iteration 6, 100 % of the budget, loss" in caplog.text


@pytest.mark.slow
def test_compiled_training(tmp_path):
    """The compiled network has the same weights, names and, up to rounding, the same course."""
    changes = {"optimizer": "SGD", "max_iterations": 3}  # Adam would enlarge rounding
    _train(tmp_path / "plain", **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        _train(tmp_path / "compiled", compile="default", **changes)
    found = [load_checkpoint(tmp_path / n / "checkpoints").weights for n in ("plain", "compiled")]
    assert found[0].keys() == found[1].keys()
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], atol=1e-4, rtol=1e-3)


def test_network_that_cannot_be_compiled(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch._dynamo.exc.InternalTorchDynamoError("no C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(StageError, match=r"training.compile: .*\(no C\+\+ compiler\); set it to"):
        _train(tmp_path, compile="default")


def _rising(outputs, batch):
    """A loss of validation batches, which are told by their third crop, that only rises."""
    _rising.calls += 1
    logits = outputs["fgbg"][:, 0].float()
    loss = binary_cross_entropy_with_logits(logits, batch["labels"].float())
    if torch.is_grad_enabled():
        return loss, {"foreground": loss}
    return torch.tensor(float(_rising.calls)), {"foreground": torch.tensor(0.0)}


def test_training_ends_early_when_the_validation_loss_rises(tmp_path, caplog):
    """Evaluated after every iteration: the first loss is the lowest, two more are waited for."""
    changes = {"max_iterations": 50, "val_log_step": 1, "patience": 2, "checkpoints": 50}
    _rising.calls = 0
    with caplog.at_level(logging.INFO):
        assert _train(tmp_path, loss=_rising, **changes) == 3
    assert "training ends early at iteration 3: no validation loss below" in caplog.text
    found = load_checkpoint(tmp_path / "checkpoints")
    assert (found.iteration, found.progress["waited"]) == (3, 2)
    assert _train(tmp_path, loss=_rising, **changes) == 3  # nothing is left to do
    _rising.calls = 10**6
    assert _train(tmp_path, loss=_rising, **{**changes, "patience": 4}) == 5


def test_plateau_goes_on_as_if_it_had_not_been_killed(tmp_path):
    changes = {"schedule": "plateau", "plateau_patience": 1, "val_log_step": 1, "loss": _still}
    _train(tmp_path / "whole", **changes)
    with pytest.raises(Killed):
        _train(tmp_path / "cut", batches=_killed_at(5), **changes)
    _train(tmp_path / "cut", **changes)
    whole, cut = (load_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "cut"))
    _assert_same(whole, cut)
    assert whole.progress == cut.progress
    rates = [row["learning_rate"] for row in read_log(tmp_path / "cut" / "logs" / "log.csv")]
    # One evaluation is the lowest; each of the others halves the rate of the next iteration.
    assert rates[2:] == pytest.approx([0.01 / 2, 0.01 / 4, 0.01 / 8, 0.01 / 16])


def _still(outputs, batch):
    """A loss that validation does not see change."""
    loss, parts = _loss(outputs, batch)
    return (loss, parts) if torch.is_grad_enabled() else (torch.tensor(1.0), parts)


def test_checkpoints_written_before_progress_was_kept_are_read(tmp_path):
    _train(tmp_path)
    path = sorted((tmp_path / "checkpoints").glob("*.pt"))[-1]
    values = torch.load(path, weights_only=True)
    del values["progress"]
    torch.save(values, path)
    assert load_checkpoint(tmp_path / "checkpoints").progress == {}
    assert _train(tmp_path, max_iterations=7) == 7
