"""The whole pipeline through the command line, on crops of real nuclei with a tiny network."""

import csv
import re
import tomllib

import numpy as np
import pytest

from instaseg.blockwise.store import open_store
from instaseg.io.arrays import array_attributes, has_array, open_array
from instaseg.io.samples import read_whole
from instaseg.methods.patches import assemble
from instaseg.methods.patches.config import LabelSettings

TEST = ("2227fd", "4d0967", "8cdbdd")
TRAIN = ("0402a8", "04acab", "150b0f")


def read(path, key):
    return read_whole(open_array(path, key))


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


def best(experiment):
    """Return the folder names of the checkpoint and the parameters that validation chose."""
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())
    values = verdict["checkpoints"][str(verdict["checkpoint"])]["values"]
    parameters = ",".join(f"{k.removeprefix('vote_instances.')}={v}" for k, v in values.items())
    return str(verdict["checkpoint"]), parameters


def work(experiment):
    """Return the time of change of every file that takes work to make."""
    patterns = ("train/checkpoints/*.pt", "*/predicted/**/*", "*/instances/**/*")
    files = [path for pattern in patterns for path in experiment.glob(pattern)]
    files += experiment.glob("*/evaluated/**/*.toml")
    return {path: path.stat().st_mtime_ns for path in files if path.is_file()}


# One run of --do all.


def test_all_writes_every_file_it_promises(experiment):
    assert {".lock", "config.toml", "provenance.toml", "run.log"} <= set(names(experiment))
    assert names(experiment / "network") == ["network.toml", "network.txt"]
    checkpoints = ["checkpoint_00000004.pt", "checkpoint_00000008.pt"]
    assert names(experiment / "train" / "checkpoints") == checkpoints
    assert names(experiment / "train" / "snapshots") == ["00000004.zarr", "00000008.zarr"]
    logs = names(experiment / "train" / "logs")
    assert "log.csv" in logs
    assert any(name.startswith("events.out.tfevents") for name in logs)

    assert names(experiment / "val") == ["best.toml", "evaluated", "predicted", "validation.csv"]
    checkpoint, parameters = best(experiment)
    test, zarrs = experiment / "test", [f"{name}.zarr" for name in TEST]
    assert names(test) == ["evaluated", "instances", "predicted"]
    assert names(test / "predicted") == names(test / "instances") == [checkpoint]
    assert names(test / "predicted" / checkpoint) == zarrs
    assert names(test / "instances" / checkpoint) == [parameters]
    assert names(test / "instances" / checkpoint / parameters) == zarrs
    assert names(test / "evaluated") == sorted([checkpoint, "baseline_otsu"])
    scores = sorted([*(f"{name}.toml" for name in TEST), "summary.csv"])
    assert names(test / "evaluated" / checkpoint / parameters) == scores
    assert names(test / "evaluated" / "baseline_otsu") == scores

    report = experiment / "report"
    assert names(report) == ["index.html", "loss.png", "overlays", "scores.png"]
    assert len(names(report / "overlays", "*.png")) == 2
    assert not list(experiment.rglob("*.partial"))


def test_arrays_are_what_the_documentation_says(experiment):
    checkpoint, parameters = best(experiment)
    for name in TEST:
        prediction = experiment / "test" / "predicted" / checkpoint / f"{name}.zarr"
        patches = read(prediction, "volumes/pred_affs")
        assert (patches.shape, patches.dtype) == ((25, 100, 100), np.float16)
        assert read(prediction, "volumes/pred_fgbg").shape == (1, 100, 100)
        path = experiment / "test" / "instances" / checkpoint / parameters / f"{name}.zarr"
        for key in ("vote_instances", "instances"):
            labels = read(path, key)
            assert labels.shape == (96, 96)
            assert labels.dtype.kind in "iu"


def test_network_is_described(experiment):
    network = tomllib.loads((experiment / "network" / "network.toml").read_text())
    assert network["training"]["input_shape"] == [1, 64, 64]
    assert network["training"]["output_shapes"] == {"affs": [25, 64, 64], "fgbg": [1, 64, 64]}
    assert network["parameters"] > 1000


def test_printed_table_compares_with_otsu(finished_run, experiment):
    out = finished_run.out
    checkpoint, _ = best(experiment)
    lines = out.splitlines()
    head = next(i for i, line in enumerate(lines) if "avS" in line and "Num GT" in line)
    assert lines[head + 1].startswith(f"checkpoint {checkpoint} ")
    assert lines[head + 2].startswith("otsu + components ")
    column = lines[head].split().index("avS") - len(lines[head].split())
    assert float(lines[head + 2].split()[column]) > 0.2
    assert re.search(r"best: checkpoint \d, parameters patch_threshold=", out)
    assert "report: " in out


def test_stages_run_in_the_order_of_the_table(finished_run):
    stages = re.findall(r"^stage (\w+)$", finished_run.err, re.MULTILINE)
    assert stages == [
        "mknet",
        "train",
        "validate_checkpoints",
        "predict",
        "decode",
        "label",
        "postprocess",
        "classify",
        "evaluate",
        "visualize",
    ]
    assert "this setup has no codes" in finished_run.err


def test_links_and_pictures_of_the_report_exist(experiment):
    page = (experiment / "report" / "index.html").read_text()
    links = [
        link
        for link in re.findall(r'(?:href|src)="([^"#]+)"', page)
        if not link.startswith(("http", "data:"))
    ]
    assert len(links) >= 8
    assert [link for link in links if not (experiment / "report" / link).is_file()] == []
    for shown in ("../config.toml", "../val/validation.csv", "loss.png", "scores.png"):
        assert shown in links


def test_validation_table_has_every_checkpoint_and_parameter_set(experiment):
    with (experiment / "val" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert {row["checkpoint"] for row in rows} == {"4", "8"}
    metric = "confusion_matrix.avS"
    checkpoint, parameters = best(experiment)
    chosen = [row for row in rows if (row["checkpoint"], row["parameters"]) == best(experiment)]
    assert len(chosen) == 1, (checkpoint, parameters)
    assert float(chosen[0][metric]) == max(float(row[metric]) for row in rows)


def test_summary_ends_with_mean_and_pooled_counts(experiment):
    checkpoint, parameters = best(experiment)
    with (experiment / "test" / "evaluated" / checkpoint / parameters / "summary.csv").open() as f:
        rows = list(csv.reader(f))
    assert [row[0] for row in rows[1:4]] == list(TEST)
    assert len(rows) == 1 + 3 + 2


# The same experiment again.


def test_again_does_nothing_twice(experiment, run):
    before = work(experiment)
    done = run("--do", "all", "-id", experiment)
    assert done.code == 0, done.err
    assert work(experiment) == before
    for said in (
        "16 of 16 scores exist, skipped",
        "predict: 3 of 3 samples of test done, skipped",
        "label: 3 of 3 samples done, skipped",
        "postprocess: 3 of 3 samples done, skipped",
        "evaluate: 3 of 3 samples done, skipped",
        "baseline: 3 of 3 samples done, skipped",
    ):
        assert said in done.err
    assert "train: 8 iterations" in done.out


def test_another_parameter_relabels_beside_the_old_result(experiment, run):
    before = work(experiment)
    arguments = ("-id", experiment, "--set", "vote_instances.patch_threshold=0.45")
    assert run("--do", "label", "postprocess", "evaluate", *arguments).code == 0
    checkpoint, old = best(experiment)
    new = re.sub("patch_threshold=[^,]+", "patch_threshold=0.45", old)
    assert names(experiment / "test" / "instances" / checkpoint) == sorted([old, new])
    assert {path: time for path, time in work(experiment).items() if path in before} == before
    fg_threshold = float(re.search(r"fg_threshold=([\d.]+)", old)[1])
    for name in TEST:
        path = experiment / "test" / "predicted" / checkpoint / f"{name}.zarr"
        expected = assemble(
            read(path, "volumes/pred_affs"),
            read(path, "volumes/pred_fgbg")[0].astype(np.float32),
            patch_shape=(5, 5),
            settings=LabelSettings(patch_threshold=0.45, fg_threshold=fg_threshold),
        )
        found = experiment / "test" / "instances" / checkpoint / new / f"{name}.zarr"
        np.testing.assert_array_equal(read(found, "vote_instances"), expected[2:-2, 2:-2])
    again = run("--do", "label", *arguments)
    assert "label: 3 of 3 samples done, skipped" in again.err


def test_result_of_other_settings_in_the_same_place_is_not_used(experiment, run):
    """`ignore_small_components` of a file given beside -id: the folder's name stays the same."""
    checkpoint, parameters = best(experiment)
    path = experiment / "test" / "instances" / checkpoint / parameters / f"{TEST[0]}.zarr"
    old = array_attributes(path, "vote_instances")["fingerprint"]
    file = experiment / "other.toml"
    file.write_text("[vote_instances]\nignore_small_components = 7\n")
    arguments = ("-id", experiment, "--app", "tiny", "--config", file)
    refused = run("--do", "evaluate", *arguments)
    assert refused.code == 1
    assert "run label first" in refused.err
    done = run("--do", "label", "evaluate", *arguments)
    assert done.code == 0
    assert "skipped" not in done.err.replace("baseline: 3 of 3 samples done, skipped", "")
    assert array_attributes(path, "vote_instances")["fingerprint"] != old


def test_evaluation_settings_need_no_new_instances(experiment, run):
    before = work(experiment)
    done = run("--do", "evaluate", "-id", experiment, "--set", "evaluation.average=pooled")
    assert done.code == 0, done.err
    assert "pooled counts" in done.out
    after = work(experiment)
    assert {path: after[path] for path in before if "baseline" not in str(path)} == {
        path: time for path, time in before.items() if "baseline" not in str(path)
    }


def test_overwrite_does_the_named_stages_again_and_no_others(experiment, run):
    before = work(experiment)
    assert run("--do", "label", "-id", experiment, "--overwrite").code == 0
    changed = {path for path, time in work(experiment).items() if before.get(path) != time}
    assert changed
    assert all("/vote_instances/" in str(path) for path in changed)
    everything = {path for path in before if "/vote_instances/" in str(path)}
    assert changed == everything


def test_one_sample(experiment, run):
    arguments = ("-id", experiment, "--sample", "4d0967")
    done = run("--do", "infer", *arguments, "--set", "vote_instances.patch_threshold=0.6")
    assert done.code == 0, done.err
    assert "1 samples" in done.out
    checkpoint, old = best(experiment)
    new = re.sub("patch_threshold=[^,]+", "patch_threshold=0.6", old)
    folder = experiment / "test" / "instances" / checkpoint / new
    assert names(folder) == ["4d0967.zarr"]
    wrong = run("--do", "infer", "-id", experiment, "--sample", "4d0968")
    assert wrong.code == 2
    assert "4d0967" in wrong.err


def test_the_summary_keeps_the_samples_that_are_not_named(experiment, run):
    checkpoint, parameters = best(experiment)
    evaluated = experiment / "test" / "evaluated"
    files = [evaluated / checkpoint / parameters, evaluated / "baseline_otsu"]
    before = [(folder / "summary.csv").read_text() for folder in files]
    done = run("--do", "evaluate", "-id", experiment, "--sample", "4d0967", "--overwrite")
    assert done.code == 0, done.err
    assert "1 samples" in done.out
    assert [(folder / "summary.csv").read_text() for folder in files] == before


def test_evaluate_says_which_instances_it_scored(experiment, run):
    done = run("--do", "evaluate", "-id", experiment)
    assert "scored: repaired instances (instances), as in validation" in done.out
    other = ("-id", experiment, "--set", "vote_instances.patch_threshold=0.6")
    done = run("--do", "infer", *other)
    assert "scored: instances as labelled (vote_instances); validation scores repaired" in done.out
    run("--do", "postprocess", *other, "--sample", "4d0967")
    done = run("--do", "evaluate", *other)
    assert "(vote_instances) for 2 of 3 samples; validation scores repaired" in done.out


def test_test_on_train(experiment, run):
    done = run("--do", "infer", "-id", experiment, "--test_on_train")
    assert done.code == 0, done.err
    checkpoint, _ = best(experiment)
    predicted = experiment / "test_on_train" / "predicted" / checkpoint
    assert names(predicted) == [f"{name}.zarr" for name in TRAIN]


def test_validate_on_train(experiment, run):
    arguments = ("-id", experiment, "--set", "validation.checkpoints=[8]", "--validate_on_train")
    done = run("--do", "validate_checkpoints", *arguments)
    assert done.code == 0, done.err
    assert "3 samples of val_on_train" in done.out
    folder = experiment / "val_on_train"
    assert names(folder) == ["best.toml", "evaluated", "predicted", "validation.csv"]
    assert names(folder / "predicted" / "8") == [f"{name}.zarr" for name in TRAIN]


def test_choice_of_the_checkpoint(experiment, run):
    chosen, _ = best(experiment)
    other = {"4": "8", "8": "4"}[chosen]
    assert run("--do", "predict", "-id", experiment, "--checkpoint", other).code == 0
    assert names(experiment / "test" / "predicted") == ["4", "8"]
    last = run("--do", "predict", "-id", experiment, "--test-checkpoint", "last")
    assert last.code == 0
    assert "3 of 3 samples of test done, skipped" in last.err
    # Its parameters are the best ones for that checkpoint.
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())["checkpoints"][other]
    run("--do", "label", "-id", experiment, "--checkpoint", other)
    name = ",".join(f"{k.partition('.')[2]}={v}" for k, v in verdict["values"].items())
    assert names(experiment / "test" / "instances" / other) == [name]

    missing = run("--do", "predict", "-id", experiment, "--checkpoint", "5")
    assert missing.code == 2
    assert "--checkpoint 5: no such checkpoint" in missing.err
    assert "there are 4, 8" in missing.err


def test_best_checkpoint_needs_validation(experiment, run):
    (experiment / "val" / "best.toml").unlink()
    done = run("--do", "predict", "-id", experiment, "--test-checkpoint", "best")
    assert done.code == 2
    assert "run validate_checkpoints before it" in done.err
    # Without the flag the last checkpoint predicts and parameters are as configured.
    assert run("--do", "predict", "label", "-id", experiment).code == 0
    assert "configured" in names(experiment / "test" / "instances" / "8")


def test_two_workers_give_the_same_instances(experiment, run):
    checkpoint, parameters = best(experiment)
    folder = experiment / "test" / "instances" / checkpoint / parameters
    before = {name: read(folder / f"{name}.zarr", "vote_instances") for name in TEST}
    times = work(experiment)
    done = run("--do", "label", "-id", experiment, "--overwrite", "--workers", "2")
    assert done.code == 0, done.err
    changed = {path for path, time in work(experiment).items() if times[path] != time}
    assert {folder / f"{name}.zarr" / "vote_instances" / "0.0" for name in TEST} <= changed
    for name, array in before.items():
        np.testing.assert_array_equal(read(folder / f"{name}.zarr", "vote_instances"), array)


def test_blocks_of_a_result_that_is_there_are_removed(experiment, run):
    """A run that is killed between the two leaves them, and so does one that goes on at once."""
    checkpoint, parameters = best(experiment)
    folder = experiment / "test" / "instances" / checkpoint / parameters
    left = [folder / f"{TEST[0]}.blocks", folder / f"{TEST[1]}.repair"]
    for blocks in left:
        open_store(blocks, "made from something").write("step", 0, {"a": np.zeros(3)})
    (own := folder / f"{TEST[2]}.blocks").mkdir()
    (own / "notes.txt").write_text("not of this program")
    done = run("--do", "label", "postprocess", "-id", experiment)
    assert done.code == 0, done.err
    assert "label: 3 of 3 samples done, skipped" in done.err
    assert not any(blocks.exists() for blocks in left)
    assert (own / "notes.txt").is_file()


def test_cleanup(experiment, run):
    checkpoint, _ = best(experiment)
    predictions = list(experiment.glob("*/predicted/*/*.zarr"))
    kept = experiment / "test" / "predicted" / "4" / "unused.zarr" / "volumes"
    kept.mkdir(parents=True)
    name = f"{TEST[0]}.zarr"
    path = experiment / "test" / "predicted" / checkpoint / name
    before = {key: read(path, f"volumes/{key}") for key in ("pred_affs", "pred_fgbg")}
    done = run("--do", "cleanup", "-id", experiment)
    assert done.code == 0, done.err
    assert f"cleanup: {len(predictions)} predictions deleted" in done.out
    assert "1 kept because nothing was made from them yet" in done.out
    assert done.err.count(" MiB  ") == len(predictions)
    assert f"MiB  test/predicted/{checkpoint}/{name}" in done.err
    assert list(experiment.glob("*/predicted/*/*")) == [kept.parent]
    kept.rmdir()
    kept.parent.rmdir()

    # Nothing that was made from them is asked for again.
    later = run("--do", "label", "postprocess", "evaluate", "-id", experiment)
    assert later.code == 0, later.err
    assert "label: 3 of 3 samples done, skipped" in later.err
    assert "evaluate: 3 of 3 samples done, skipped" in later.err
    # Other parameters need them.
    other = ("-id", experiment, "--set", "vote_instances.patch_threshold=0.6")
    refused = run("--do", "label", *other)
    assert refused.code == 1
    assert "run predict first" in refused.err
    assert run("--do", "predict", "label", *other, "--sample", TEST[0]).code == 0
    for key, array in before.items():
        np.testing.assert_array_equal(read(path, f"volumes/{key}"), array)


def test_cleanup_that_was_killed_leaves_no_half_prediction(experiment, run, monkeypatch):
    """Deleting a folder takes many steps; what is left after some of them must not be read."""

    def killed(path):
        next(iter(path.rglob("0.0.0"))).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("instaseg.stages.cleanup.shutil.rmtree", killed)
        assert run("--do", "cleanup", "-id", experiment).code == 130
    assert "predict: 3 of 3" not in run("--do", "predict", "-id", experiment).err
    assert run("--do", "cleanup", "-id", experiment).code == 0
    assert not list(experiment.glob("*/predicted/*/*"))


def states(text):
    """Return the state of each stage in the table that ``status`` prints."""
    rows = (re.split(r"\s{2,}", line) for line in text.splitlines()[2:])
    return {row[0]: row[1] for row in rows}


SAMPLE_STAGES = ("predict", "label", "postprocess", "evaluate")


def test_status(experiment, run):
    before = {path: path.stat().st_mtime_ns for path in experiment.rglob("*")}
    done = run("--do", "status", "-id", experiment)
    assert done.code == 0
    assert {path: path.stat().st_mtime_ns for path in experiment.rglob("*")} == before
    found = states(done.out)
    assert found.pop("train") == "has checkpoints"
    assert set(found.values()) == {"done"}
    assert set(SAMPLE_STAGES) < set(found)

    checkpoint, parameters = best(experiment)
    folder = experiment / "test" / "evaluated" / checkpoint / parameters
    (folder / f"{TEST[0]}.toml").unlink()
    found = states(run("--do", "status", "-id", experiment).out)
    assert (found["label"], found["evaluate"]) == ("done", "half done")

    # Scores and instances of other settings are not those of these.
    setting = ("--set", "vote_instances.ignore_small_components=5")
    found = states(run("--do", "status", "-id", experiment, *setting).out)
    assert [found[stage] for stage in SAMPLE_STAGES] == ["done", *["missing"] * 3]


def test_scores_of_other_instances_are_not_done(experiment, run):
    """Instances made again from a mended label file: the old scores count for nothing."""
    file = experiment / "other.toml"
    file.write_text("[vote_instances]\nignore_small_components = 7\n")
    arguments = ("-id", experiment, "--app", "tiny", "--config", file)
    assert run("--do", "label", *arguments).code == 0
    found = states(run("--do", "status", *arguments).out)
    assert (found["label"], found["evaluate"]) == ("done", "missing")


def test_validate_scores_one_checkpoint(experiment, run):
    (experiment / "val" / "best.toml").unlink()
    done = run("--do", "validate", "-id", experiment, "--checkpoint", "4")
    assert done.code == 0, done.err
    assert "8 of 8 scores exist, skipped" in done.err
    assert "best: checkpoint 4, parameters " in done.out
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())
    assert list(verdict["checkpoints"]) == ["4"]
    run("--do", "validate", "-id", experiment)
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())
    assert list(verdict["checkpoints"]) == ["4", "8"]


def test_a_value_fixed_on_the_command_line_is_not_swept(experiment, run):
    arguments = ("-id", experiment, "--set", "vote_instances.patch_threshold=0.6")
    done = run("--do", "validate", *arguments)
    assert done.code == 0, done.err
    rows = re.findall(r"^ +8 +(\S+)", done.out, re.MULTILINE)
    assert sorted(rows) == [
        "patch_threshold=0.6,fg_threshold=0.3",
        "patch_threshold=0.6,fg_threshold=0.4",
    ]


def test_where_fewer_errors_are_better_the_table_begins_with_the_fewest(experiment, run):
    metric = "confusion_matrix.th_0_1.AP_FN"
    done = run("--do", "validate", "-id", experiment, "--set", f"evaluation.metric={metric}")
    assert done.code == 0, done.err
    shown = [float(n) for n in re.findall(r"^ +8 .* ([\d.]+)$", done.out, re.MULTILINE)]
    assert len(shown) == 4
    assert shown == sorted(shown)


def test_decode_says_that_there_are_no_codes(experiment, run):
    done = run("--do", "decode", "-id", experiment)
    assert done.code == 0
    assert "decode: this setup has no codes (its heads are volumes/pred_affs" in done.err


def test_comment_and_commands_are_kept(experiment, run):
    comment = r'tried "0.6", and \x41 '
    run("--do", "decode", "-id", experiment, "--comment", comment)
    # Reading it again shows that what was written is TOML.
    assert run("--do", "decode", "-id", experiment).code == 0
    first, second, third = tomllib.loads((experiment / "provenance.toml").read_text())["run"]
    assert first["command"][0] == "run_ppp.py"
    assert first["stages"][:2] == ["mknet", "train"]
    assert (first["app"], first["setup"]) == ("tiny", "setup01")
    assert second["comment"] == comment
    assert third["command"] == ["run_ppp.py", "--do", "decode", "-id", str(experiment)]


def test_dry_run_writes_nothing(experiment, run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in experiment.rglob("*")}
    done = run("--do", "evaluate", "label", "-id", experiment, "--overwrite", "--dry-run")
    assert done.code == 0
    assert re.search(r"1\. label: .*\n2\. evaluate: ", done.out)
    assert {path: path.stat().st_mtime_ns for path in experiment.rglob("*")} == before
    new = run("--do", "all", "--app", "tiny", "--root", tmp_path / "new", "--dry-run")
    assert new.code == 0
    assert not (tmp_path / "new").exists()


MODEL = '''
"""A network that needs no training: what is bright is foreground, and so is each patch."""

import torch
from torch import nn


class Bright(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.channels = {head.name: head.channels for head in heads}
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, raw):
        logits = self.scale * (raw - 0.5)
        return {name: logits.expand(-1, n, -1, -1) for name, n in self.channels.items()}


def build_network(model, data, heads):
    assert data.num_channels == 1
    return Bright(heads)
'''

LOSS = """
def loss(outputs, batch):
    part = (outputs["fgbg"].float() ** 2).mean() * 1e-6
    return part, {"mine": part}
"""


@pytest.fixture
def setup_with_code(workspace, tmp_path):
    """Return a working directory whose app has a setup with code."""
    setup = tmp_path / "work" / "experiments" / "coded" / "setups" / "setup07"
    setup.mkdir(parents=True)
    tiny = workspace / "experiments" / "tiny" / "setups" / "setup01" / "default.toml"
    text = tiny.read_text().replace("../../../../data", str(workspace / "data"))
    (setup / "default.toml").write_text(text)
    (setup / "torch_model.py").write_text(MODEL)
    (setup / "torch_loss.py").write_text(LOSS)
    return tmp_path / "work"


def test_setup_with_code_of_its_own_and_a_quick_pass(setup_with_code, run, monkeypatch, tmp_path):
    monkeypatch.chdir(setup_with_code)
    stages = ("mknet", "train", "validate_checkpoints", "predict", "label", "evaluate")
    arguments = ("--app", "coded", "--setup", "setup07", "--root", tmp_path, "--debug_args")
    done = run("--do", *stages, *arguments, "--comment", "a quick pass")
    assert done.code == 0, done.err
    experiment = done.experiment
    assert experiment.name.startswith("coded_setup07_")
    # Ten iterations and two samples of each data set.
    assert "train: 10 iterations" in done.out
    assert "2 samples, mean over samples" in done.out
    assert names(experiment / "train" / "checkpoints") == ["checkpoint_00000010.pt"]
    assert len(names(experiment / "test" / "predicted" / "10")) == 2
    provenance = tomllib.loads((experiment / "provenance.toml").read_text())
    assert provenance["run"][0]["comment"] == "a quick pass"
    # Its network and its loss were used.
    assert tomllib.loads((experiment / "network" / "network.toml").read_text())["parameters"] == 1
    assert "loss_mine" in (experiment / "train" / "logs" / "log.csv").read_text().splitlines()[0]
    assert "avS" in done.out

    # The experiment goes on with the code as it was, whatever became of the setup.
    copies = names(experiment / "setup", "*.py")
    assert copies == ["torch_loss.py", "torch_model.py"]
    for name in copies:
        folder = setup_with_code / "experiments" / "coded" / "setups" / "setup07"
        (folder / name).write_text("raise RuntimeError\n")
    more = ("--set", "training.max_iterations=12")
    again = run("--do", "train", "predict", "-id", experiment, *more, "--test-checkpoint", "last")
    assert again.code == 0, again.err
    assert "train: 12 iterations" in again.out
    assert has_array(
        experiment / "test" / "predicted" / "12" / f"{TEST[2]}.zarr", "volumes/pred_affs"
    )


def test_cross_validation(experiment, run):
    arguments = ("-id", experiment, "--set", "validation.checkpoints=[8]")
    done = run("--do", "cross_validate", *arguments)
    assert done.code == 0, done.err
    with (experiment / "cross_validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    metric = "confusion_matrix.avS"
    assert [(row["chosen on"], row["scored on"]) for row in rows] == [
        ("val", "test"),
        ("test", "val"),
    ]
    mean = np.mean([float(row[metric]) for row in rows])
    assert f"mean {metric}: {mean:.3f}" in done.out
    # Both halves are scored by what validation of checkpoint 8 chose on the other.
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())["checkpoints"]["8"]
    values = ",".join(f"{k.partition('.')[2]}={v}" for k, v in verdict["values"].items())
    assert rows[0]["parameters"] == values


def test_cross_validation_checks_the_data_it_is_told_to_use(experiment, run):
    arguments = ("--do", "cross_validate", "-id", experiment, "--dry-run", "--test-data", "nothing")
    refused = run(*arguments)
    assert refused.code == 2
    assert "nothing" in refused.err
    halves = 'data.cross_val_folders=["train_data", "val_data"]'
    assert run(*arguments, "--set", halves).code == 0
