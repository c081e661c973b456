"""Cross validation over the folds of one data set, through the command line."""

import csv

import numpy as np
import pytest

METRIC = "confusion_matrix.avS"
FOLDS = 'one = ["2227fd"]\ntwo = ["4d0967"]\nthree = ["8cdbdd"]\n'


@pytest.fixture
def split(tmp_path):
    (tmp_path / "split.toml").write_text(FOLDS)
    return (
        "--set",
        "validation.folds=split_file",
        "--set",
        f"validation.split_file={tmp_path / 'split.toml'}",
    )


def scores(experiment, name, parameters):
    """Return the average score that one sample got with one parameter set of checkpoint 8."""
    import tomllib

    file = experiment / "test" / "evaluated" / "8" / parameters / f"{name}.toml"
    return tomllib.loads(file.read_text())["confusion_matrix"]["avS"]


def test_each_fold_is_scored_with_what_the_others_chose(experiment, run, split):
    only = ("--set", "validation.checkpoints=[8]")
    done = run("--do", "cross_validate", "-id", experiment, *split, *only)
    assert done.code == 0, done.err
    with (experiment / "cross_validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["chosen on"], row["scored on"], row["samples"]) for row in rows] == [
        ("two+three", "one", "1"),
        ("one+three", "two", "1"),
        ("one+two", "three", "1"),
    ]
    samples = ["2227fd", "4d0967", "8cdbdd"]
    sets = [p.name for p in (experiment / "test" / "evaluated" / "8").iterdir() if "=" in p.name]
    for left_out, row in zip(samples, rows, strict=True):
        others = [name for name in samples if name != left_out]
        of_others = {s: np.mean([scores(experiment, o, s) for o in others]) for s in sets}
        assert of_others[row["parameters"]] == pytest.approx(max(of_others.values()))
        assert float(row[METRIC]) == pytest.approx(scores(experiment, left_out, row["parameters"]))
    mean = np.mean([float(row[METRIC]) for row in rows])
    assert f"mean {METRIC}: {mean:.3f}" in done.out


def test_folds_are_checked_before_any_work(experiment, run, split, tmp_path):
    (tmp_path / "split.toml").write_text(FOLDS + 'four = ["2227fd", "gone"]\n')
    refused = run("--do", "cross_validate", "-id", experiment, *split)
    assert refused.code == 2
    assert "2227fd is in one and four" in refused.err
    assert "four names gone, no such sample" in refused.err


def test_parameters_that_exclude_each_other_are_refused_before_any_work(experiment, run):
    refused = run(
        *("--do", "validate", "-id", experiment),
        *("--set", 'validation.params_product=["evaluation.localization_criterion"]'),
        *("--set", 'validation.params_zip=["evaluation.centre_lines"]'),
        *("--set", 'validation.evaluation.localization_criterion=["cldice"]'),
        *("--set", 'validation.evaluation.centre_lines=["skip"]'),
        *("--set", "validation.patch_threshold=[]"),
    )
    assert refused.code == 2
