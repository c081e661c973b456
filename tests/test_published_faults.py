"""What the published runner does wrong: the same is asked here, and the right answer expected.

One test per fault. A number in a test's name is the fault's; what the published code does is said
in its first line.
"""

import csv
import re
import tomllib
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch

from instaseg.data.config import DataSettings, NormalizationSettings
from instaseg.data.normalization import Statistics, for_sample
from instaseg.io.arrays import has_array, open_array, write_array
from instaseg.io.samples import find_samples, read_whole
from instaseg.methods.patches import assemble
from instaseg.methods.patches.config import LabelSettings, PatchesSettings
from instaseg.methods.patches.method import PatchesMethod
from instaseg.models.config import ModelSettings
from instaseg.run.experiment import Experiment
from instaseg.run.sweep import set_name
from instaseg.stages import validation
from instaseg.stages.scoring import write_scores
from instaseg.training.checkpoints import list_checkpoints

ROOT = Path(__file__).parents[1]
AVS = "confusion_matrix.avS"


def read(path, key):
    return read_whole(open_array(path, key))


def test_1_all_builds_the_network_and_goes_on(finished_run):
    """`--do all` stops in `mknet`, where the network's file is not there yet."""
    assert finished_run.code == 0, finished_run.err
    assert (finished_run.experiment / "network" / "network.toml").is_file()
    assert finished_run.err.index("stage mknet") < finished_run.err.index("stage train")
    assert "report: " in finished_run.out


def test_2_checkpoints_are_found_and_all_of_them_validated(experiment):
    """Checkpoints are looked for under TensorFlow's names: torch's are never found."""
    found = list_checkpoints(experiment / "train" / "checkpoints")
    assert found == [4, 8]
    with (experiment / "val" / "validation.csv").open() as file:
        validated = {int(row["checkpoint"]) for row in csv.DictReader(file)}
    assert validated == set(found)


def test_3_all_validates_checkpoints_without_being_asked(finished_run, experiment):
    """`all` validates checkpoints only with `--test-checkpoint best`, against the README."""
    (first,) = tomllib.loads((experiment / "provenance.toml").read_text())["run"]
    assert first["command"][-2:] == ["--do", "all"]
    assert "stage validate_checkpoints" in finished_run.err
    assert (experiment / "val" / "best.toml").is_file()


CHOSEN = {"patch_threshold": 0.7, "fg_threshold": 0.4}


def prefers_chosen(task):
    """Score checkpoint 4 with the chosen parameters best, without looking at any instances."""
    first = task.prediction.parent.name == "4"
    for parameters, output, fingerprint in zip(
        task.sets, task.outputs, task.fingerprints, strict=True
    ):
        labelling = parameters.labelling.model_dump()
        right = all(labelling[name] == value for name, value in CHOSEN.items())
        value = 0.2 + 0.4 * right + 0.2 * first
        settings = parameters.evaluation
        scores: dict = {}
        for name in (settings.metric, *settings.summary):
            *tables, last = name.split(".")
            inner = scores
            for table in tables:
                inner = inner.setdefault(table, {})
            inner[last] = value
        write_scores(output, scores, fingerprint)


def test_4_the_best_parameters_label_and_evaluate(experiment, run, monkeypatch):
    """The best checkpoint is used, and the parameters that made it the best are thrown away.

    Configured is a `patch_threshold` of 0.5; the sweep is made to find 0.7 (and checkpoint 4) best.
    """
    rmtree(experiment / "val")
    rmtree(experiment / "test")
    monkeypatch.setattr(validation, "validate_sample", prefers_chosen)
    monkeypatch.setattr(validation, "average_scores", lambda scores, *_: scores[0])
    stages = ("validate_checkpoints", "predict", "label", "postprocess", "evaluate")
    done = run("--do", *stages, "-id", experiment)
    assert done.code == 0, done.err

    config = tomllib.loads((experiment / "config.toml").read_text())
    assert config["vote_instances"]["patch_threshold"] == 0.5
    name = "patch_threshold=0.7,fg_threshold=0.4"
    assert f"best: checkpoint 4, parameters {name}" in done.out
    assert f"label: checkpoint 4, parameters {name}" in done.err
    test = experiment / "test"
    assert [path.name for path in (test / "predicted").iterdir()] == ["4"]
    assert [path.name for path in (test / "instances" / "4").iterdir()] == [name]
    assert (test / "evaluated" / "4" / name / "summary.csv").is_file()

    # Not by name only: the instances are those of these parameters.
    for path in (test / "instances" / "4" / name).iterdir():
        prediction = test / "predicted" / "4" / path.name
        expected = assemble(
            read(prediction, "volumes/pred_affs"),
            read(prediction, "volumes/pred_fgbg")[0].astype(np.float32),
            patch_shape=(5, 5),
            settings=LabelSettings(**CHOSEN),
        )
        np.testing.assert_array_equal(read(path, "vote_instances"), expected[2:-2, 2:-2])

    # Also in a later run, and unless the command line says otherwise.
    assert "3 of 3 samples done, skipped" in run("--do", "label", "-id", experiment).err
    fixed = ("--set", "vote_instances.patch_threshold=0.6")
    assert "fg_threshold=0.4" in run("--do", "label", "-id", experiment, *fixed).err
    names = {path.name for path in (test / "instances" / "4").iterdir()}
    assert names == {name, name.replace("0.7", "0.6")}


@pytest.mark.parametrize("average", ["images", "pooled"])
def test_5_cross_validation_averages_either_way(experiment, run, average):
    """`cross_validate` with the default average reads a dict that only the other way fills."""
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())
    done = run(
        *("--do", "cross_validate", "-id", experiment),
        *("--set", f"validation.checkpoints=[{verdict['checkpoint']}]"),
        *("--set", f"evaluation.average={average}"),
    )
    assert done.code == 0, done.err
    assert re.search(rf"^mean {AVS}: \d\.\d\d\d$", done.out, re.MULTILINE)


def test_6_folders_of_different_parameters_differ():
    """`[1.5, 2]` and `[1, 5, 2]` both become `th__1_5_2_`."""
    experiment = Experiment(Path("e"))
    lists = ([1.5, 2], [1, 5, 2], [15, 2], [1, 52], [1.5, 2.5], 1.5, "1.5+2", "1_5_2", [-1.5, 2])
    names = [set_name({"evaluation.thresholds": values}) for values in lists]
    folders = {experiment.evaluated("test", 1, name) for name in names}
    assert len(folders) == len(lists)


def test_7_cleanup_finds_what_predict_wrote(experiment, run):
    """`cleanup` looks in other folders than those `predict` writes to."""
    assert list(experiment.glob("test/predicted/*/*.zarr"))
    done = run("--do", "cleanup", "-id", experiment)
    assert done.code == 0, done.err
    assert not list(experiment.glob("test/predicted/*/*"))
    instances = list(experiment.glob("test/instances/*/*/*.zarr"))
    assert len(instances) == 3
    assert all(has_array(path, "vote_instances") for path in instances)


def test_8_visualize_draws(experiment, run):
    """`visualize` stops because a name is not defined."""
    rmtree(experiment / "report")
    done = run("--do", "visualize", "-id", experiment)
    assert done.code == 0, done.err
    assert (experiment / "report" / "index.html").is_file()
    assert len(list((experiment / "report" / "overlays").glob("*.png"))) == 2


@pytest.mark.parametrize("kind", ["min_max", "percentile"])
def test_9_the_brightest_byte_becomes_one(tmp_path, kind):
    """Dividing by 1 / maximum makes 65,025 of 255."""
    image = np.repeat(np.array([[0, 51, 255]], dtype=np.uint8), 20, axis=0)
    write_array(tmp_path / "x" / "a.tif", "", image)
    (sample,) = find_samples(tmp_path, DataSettings())
    settings = NormalizationSettings(kind=kind, lower=0, upper=100)
    found = for_sample(sample, settings, Statistics()).apply(image[None])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], [0, 0.2, 1], atol=1e-6)


def test_10_a_setup_in_3d_without_overlap_has_a_loss_and_a_gradient():
    """The loss cannot be built, because torch's is given an argument that it does not have."""
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=[[1, 2, 2]],
        num_repetitions=1,
        padding="same",
        train_input_shape=[4, 8, 8],
        test_input_shape=[4, 8, 8],
    )
    method = PatchesMethod(
        PatchesSettings(patch_shape=[3, 5, 5]), model=model, data=DataSettings(ndim=3)
    )
    torch.manual_seed(0)
    network = method.build_network()
    labels = torch.zeros(1, 1, 6, 12, 12, dtype=torch.int32)
    labels[:, :, 1:5, 2:9, 2:6] = 1
    labels[:, :, 1:5, 2:9, 6:9] = 2
    batch = {"labels": labels, "mask": torch.ones(1, 4, 8, 8, dtype=torch.bool)}
    batch["sites"] = method.sites(batch, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    losses = []
    for _ in range(5):
        loss, parts = method.loss(network(torch.rand(1, 1, 4, 8, 8), batch["sites"]), batch)
        assert set(parts) == {"patch", "foreground"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad.any()}
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert "heads" in moved
    assert len(moved) > 1


def test_11_nothing_that_is_installed_floats():
    """Packages are not declared, files left out of the wheel, and dependencies follow a branch.

    What is imported is declared, and the wheel is complete: see ``test_packaging.py``.
    """
    for file in ("setup.py", "requirements.txt"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not re.search(r"git\+|https?://\S+\.(git|zip)|@ *(main|master)", text), file
