"""Phases: each trains its own part from what the one before has learnt; killed runs go on."""

import pytest
import torch
from torch import nn

from instaseg.errors import CheckpointError, ConfigError
from instaseg.training.checkpoints import list_checkpoints, load_checkpoint
from instaseg.training.config import OptimizerSettings, PhasesSettings, TrainingSettings
from instaseg.training.logs import read_log
from instaseg.training.loop import TrainingRun, train
from instaseg.training.phases import all_phases, phase_at

PHASES = {
    "names": ("first", "second", "both"),
    "shares": (1.0, 2.0, 1.0),
    "train": (("near",), ("far",), ()),
    "losses": (("near",), ("far",), ()),
    "truth": ((), ("target",), ()),
    "rates": (1.0, 0.5, 0.1),
}
SETTINGS = TrainingSettings(
    max_iterations=16,
    checkpoints=3,
    log_step=1,
    val_log_step=2,
    snapshots=0,
    warmup=0.1,
    weight_averaging=0.5,
    precision="float32",
    phases=PhasesSettings(**PHASES),
)


class Killed(BaseException):
    """Ends the loop as a kill would: nothing is saved on the way out."""


class TwoSteps(nn.Module):
    """A part that sees the image, and one that sees what the first says, or the truth."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.near = nn.Sequential(
                nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1)
            )
            self.far = nn.Conv2d(1, 1, 3, padding=1)
        self.asked = []

    def forward(self, image, truth=None, wanted=("near", "far")):
        self.asked.append((tuple(sorted(truth or {})), tuple(wanted)))
        outputs = {}
        if "near" in wanted or "target" not in (truth or {}):
            outputs["near"] = self.near(image)
        if "far" in wanted:
            outputs["far"] = self.far((truth or {}).get("target", outputs.get("near")))
        return {name: outputs[name] for name in wanted}


def _batch(iteration):
    raw = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(iteration))
    return {"raw": raw, "target": raw * 2 - 1}


def _batches(first):
    while True:
        yield _batch(first)
        first += 1


def _loss(outputs, batch):
    noise = torch.rand(())  # random numbers matter
    parts = {name: ((value - batch["target"]) ** 2).mean() for name, value in outputs.items()}
    return sum(parts.values()) * (1 + noise), parts


def _train(folder, *, network=None, batches=_batches, settings=SETTINGS, **changes):
    return train(
        network or TwoSteps(),
        _loss,
        run=TrainingRun(
            folder=folder,
            settings=settings.model_copy(update=changes),
            optimizer=OptimizerSettings(lr=0.01),
            device=torch.device("cpu"),
            seed=3,
            config="[model]",
        ),
        batches=batches,
        validation=[_batch(100)],
    )


def _killed_at(iteration):
    def batches(first):
        for number, batch in enumerate(_batches(first), start=first + 1):
            if number == iteration:
                raise Killed
            yield batch

    return batches


def test_shares_divide_the_budget():
    phases = all_phases(PhasesSettings(**PHASES))
    assert [(phase.begin, phase.end) for phase in phases] == [(0, 0.25), (0.25, 0.75), (0.75, 1)]
    assert [phase_at(phases, used).name for used in (0, 0.24, 0.25, 0.74, 0.9, 1)] == [
        "first", "first", "second", "second", "both", "both",
    ]  # fmt: skip
    assert phases[1].used(0.5) == 0.5
    assert [phase.name for phase in all_phases(PhasesSettings())] == ["all"]


def _changed(before, after, prefix):
    return any(
        not torch.equal(before[name], after[name]) for name in after if name.startswith(prefix)
    )


def test_each_phase_trains_its_part_only(tmp_path):
    """Phases end after 4, 12 and 16 iterations, each with a checkpoint."""
    network = TwoSteps()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    assert _train(tmp_path, network=network) == 16
    assert list_checkpoints(tmp_path / "checkpoints") == [3, 4, 6, 9, 12, 15, 16]
    one, two, three = (load_checkpoint(tmp_path / "checkpoints", n) for n in (4, 12, 16))
    assert [c.phase["name"] for c in (one, two, three)] == ["first", "second", "both"]
    assert [c.phase["begin"] for c in (one, two, three)] == [0, 4, 12]
    assert _changed(start, one.weights, "near")
    assert not _changed(start, one.weights, "far")
    # the second phase begins with the averaged weights of the first
    assert not _changed(one.averaged_weights, two.weights, "near")
    assert _changed(one.weights, two.weights, "far")
    assert _changed(two.weights, three.weights, "near")
    assert _changed(two.weights, three.weights, "far")


def test_networks_are_asked_for_what_a_phase_needs(tmp_path):
    network = TwoSteps()
    _train(tmp_path, network=network, val_log_step=0)
    assert network.asked == [
        *[((), ("near",))] * 4,
        *[(("target",), ("far",))] * 8,
        *[((), ("near", "far"))] * 4,
    ]


def test_learning_rate_runs_its_course_in_each_phase(tmp_path):
    _train(tmp_path, warmup=0.0)
    log = read_log(tmp_path / "logs" / "log.csv")
    rates = {int(row["iteration"]): row["learning_rate"] for row in log}
    assert rates[1] == pytest.approx(0.01)
    assert rates[5] == pytest.approx(0.005)
    assert rates[13] == pytest.approx(0.001)
    assert rates[12] < 0.0003
    # columns of both losses, each where it counts
    assert "loss_far" not in log[0]
    assert "loss_near" not in log[5]
    assert {"loss_far", "loss_near"} <= set(log[-1])


@pytest.mark.parametrize("killed_at", [2, 5, 8, 13, 16])
def test_killed_and_started_again_gives_the_same_weights(tmp_path, killed_at):
    """Also where a checkpoint lies at the end of a phase (4), and beyond it."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _train(whole)
    with pytest.raises(Killed):
        _train(cut, batches=_killed_at(killed_at))
    start = 0 if list_checkpoints(cut / "checkpoints") == [] else 1
    assert _train(cut, network=TwoSteps(seed=start)) == 16
    expected, found = (load_checkpoint(folder / "checkpoints") for folder in (whole, cut))
    for name in ("weights", "averaged_weights"):
        one, other = getattr(expected, name), getattr(found, name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    logs = [read_log(folder / "logs" / "log.csv") for folder in (whole, cut)]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


def test_means_of_normalisation_stay_still_where_nothing_is_trained(tmp_path):
    network = TwoSteps()
    phases = PHASES | {"truth": ((), (), ())}  # the first part runs in the second phase
    _train(tmp_path, network=network, settings=SETTINGS, phases=PhasesSettings(**phases))
    one, two = (load_checkpoint(tmp_path / "checkpoints", n) for n in (4, 12))
    name = "near.1.running_mean"
    assert torch.equal(one.averaged_weights[name], two.weights[name])


def test_a_network_that_does_not_know_phases_counts_their_losses(tmp_path):
    class Plain(TwoSteps):
        def forward(self, image):
            return super().forward(image)

    phases = PhasesSettings(names=("a", "b"), shares=(1, 1), losses=(("near",), ("far",)))
    _train(tmp_path, network=Plain(), phases=phases)
    log = read_log(tmp_path / "logs" / "log.csv")
    assert "loss_far" not in log[0]
    assert "loss_near" not in log[-1]


def test_modules_that_are_not_there_are_named_before_training(tmp_path):
    phases = PhasesSettings(names=("a", "b"), shares=(1, 1), train=(("near",), ("wide",)))
    expected = (
        r"\[training.phases\] train: expected modules .* in phase 'b', found 'wide'; .* near, far"
    )
    with pytest.raises(ConfigError, match=expected):
        _train(tmp_path, phases=phases)
    assert not list_checkpoints(tmp_path / "checkpoints")


def test_a_checkpoint_of_a_phase_that_is_gone_is_refused(tmp_path):
    _train(tmp_path)
    phases = PhasesSettings(names=("other",), shares=(1,))
    with pytest.raises(
        CheckpointError, match=r"expected a phase .*\(other\), found both; set them"
    ):
        _train(tmp_path, phases=phases, max_iterations=20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": (1.0,)}, "one entry for each of the 3 names; got 1 in shares"),
        ({"losses": ((),)}, "one entry for each of the 3 names; got 1 in losses"),
        ({"names": ("a", "a", "b")}, "names must be different; got"),
        ({"names": ()}, "each of the 0 names; got 3 in shares"),
    ],
)
def test_lists_have_to_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        PhasesSettings(**{**PHASES, **changes})


def test_patience_does_not_go_with_phases():
    with pytest.raises(ValueError, match=r"patience must be 0 with \[training.phases\].*got 3"):
        TrainingSettings(patience=3, phases=PhasesSettings(**PHASES))
