"""Several experiments side by side, through the command line."""

import csv
import math
from pathlib import Path
from shutil import copytree

import pytest

from instaseg.metrics.config import (
    ClassEvaluationSettings,
    EvaluationSettings,
    PointEvaluationSettings,
)
from instaseg.stages.compare import comparison
from instaseg.stages.evaluate import short_name


def test_mean_and_standard_deviation_worked_out_by_hand():
    rows = comparison(
        {"a": {"s": 1.0, "t": math.nan}, "b": {"s": 2.0, "t": 0.5}, "c": {"s": 6.0, "t": math.nan}}
    )
    assert [row["experiment"] for row in rows] == ["a", "b", "c", "mean", "std", "n"]
    mean, std, number = rows[3:]
    assert (mean["s"], number["s"]) == (3.0, 3)
    assert std["s"] == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert (mean["t"], number["t"]) == (0.5, 1)
    assert math.isnan(std["t"])


@pytest.mark.parametrize(
    "settings", [EvaluationSettings, ClassEvaluationSettings, PointEvaluationSettings]
)
def test_all_columns_of_a_summary_are_printed(settings):
    columns = settings.model_fields["summary"].default
    assert len({short_name(column) for column in columns}) == len(columns)


def summary(experiment: Path) -> Path:
    (file,) = experiment.glob("test/evaluated/*/*/summary.csv")
    return file


@pytest.fixture
def seeds(experiment, tmp_path):
    """Return three experiments whose mean S at 0.5 is 0.25, 0.5 and 0.75."""
    folders = [experiment, *(copytree(experiment, tmp_path / f"seed{n}") for n in (2, 3))]
    for folder, value in zip(folders, (0.25, 0.5, 0.75), strict=True):
        file = summary(folder)
        rows = list(csv.DictReader(file.read_text().splitlines()))
        for row in rows:
            if row["sample"] == "mean":
                row["confusion_matrix.th_0_5.S"] = value
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folders


def test_three_seeds(seeds, run):
    first, *others = seeds
    done = run("--do", "compare", "-id", first, "--with", *others)
    assert done.code == 0, done.err
    assert "3 experiments, 3 samples, mean over samples" in done.out
    with (first / "test" / "comparison.csv").open() as file:
        rows = {row["experiment"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["experiment", "seed2", "seed3", "mean", "std", "n"]
    column = {name: float(row["confusion_matrix.th_0_5.S"]) for name, row in rows.items()}
    assert list(column.values()) == [0.25, 0.5, 0.75, 0.5, 0.25, 3.0]


def test_what_cannot_be_compared(seeds, run, tmp_path):
    first, second, third = seeds
    assert "--with: expected experiments to compare" in run("--do", "compare", "-id", first).err
    assert "leave out --with" in run("--do", "status", "-id", first, "--with", second).err
    compare = ("--do", "compare", "-id", first, "--with")
    assert "expected every experiment once" in run(*compare, first).err
    missing = run(*compare, tmp_path / "nowhere")
    assert "expected an experiment folder (with config.toml), found none" in missing.err
    assert missing.code == 2
    file = summary(second)
    text = file.read_text()
    file.write_text(text.replace("confusion_matrix.avS", "confusion_matrix.avX"))
    found = run(*compare, second).err
    assert "expected the same scores in all experiments" in found
    assert "confusion_matrix.avS, confusion_matrix.avX" in found
    lines = text.splitlines(keepends=True)
    file.write_text("".join(lines[:1] + lines[2:]))
    assert "expected the same test samples in all experiments" in run(*compare, second).err
    file.write_text("nothing")
    damaged = run(*compare, second).err
    assert "expected a table of scores, found a damaged file (no row mean, pooled)" in damaged
    file.unlink()
    gone = run(*compare, second, third)
    assert gone.code == 1
    assert "expected scores of checkpoint" in gone.err.strip().splitlines()[-1]
