"""Checkpoints chosen by the quality of their predictions, through the command line."""

import csv
import tomllib

import pytest

from instaseg.methods.patches.method import PatchesMethod

ONLY = ("--set", "validation.prediction_only=true")
METRIC = "patch.th_0_5.IoU"


def test_the_best_checkpoint_by_its_predictions(experiment, run):
    done = run("--do", "validate_checkpoints", "-id", experiment, *ONLY)
    assert done.code == 0, done.err
    with (experiment / "val" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["checkpoint"], row["parameters"]) for row in rows] == [
        ("4", "configured"),
        ("8", "configured"),
    ]
    values = {int(row["checkpoint"]): float(row[METRIC]) for row in rows}
    assert all(0 < value < 1 for value in values.values())
    verdict = tomllib.loads((experiment / "val" / "best.toml").read_text())
    assert verdict["metric"] == METRIC
    assert verdict["checkpoint"] == max(values, key=values.get)
    for number, score in values.items():
        assert verdict["checkpoints"][str(number)]["score"] == pytest.approx(score)
        assert verdict["checkpoints"][str(number)]["values"] == {}
    assert "predictions, no instances" in done.out
    assert not list((experiment / "val").glob("instances"))
    # Later runs take it, and no swept values with it.
    later = run("--do", "predict", "label", "-id", experiment, *ONLY)
    assert f"label: checkpoint {verdict['checkpoint']}, parameters configured" in later.err
    files = {p: p.stat().st_mtime_ns for p in experiment.glob("val/evaluated/*/predictions/*")}
    assert len(files) == 4
    assert run("--do", "validate", "-id", experiment, "--checkpoint", "4", *ONLY).code == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_score_that_is_none_is_refused_before_any_work(experiment, run):
    wrong = ("--set", "validation.prediction_metric=patch.th_0_5.iou")
    refused = run("--do", "validate_checkpoints", "-id", experiment, *ONLY, *wrong)
    assert refused.code == 2
    assert "the nearest is 'patch.th_0_5.IoU'" in refused.err


def test_predictions_that_do_not_fit_in_memory_are_left_out(experiment, run, monkeypatch):
    monkeypatch.setattr(PatchesMethod, "block_shape", lambda *_: (8, 8))
    done = run("--do", "validate", "-id", experiment, "--checkpoint", "8", *ONLY)
    assert done.code == 1
    assert done.err.count("does not fit in memory, where predictions themselves are scored") == 2
    assert "fit in memory, found none among 2" in done.err
    assert not list(experiment.glob("val/evaluated/8/predictions/*"))
