"""The CSV log: one row per line, rows done again replaced."""

import pytest

from instaseg.errors import StageError
from instaseg.training.logs import TrainingLog, read_log


def _write(folder, done, rows):
    columns = {"iteration": 0, "loss": 0.0, "validation_loss": 0.0}
    with TrainingLog(folder, done) as log:
        for row in rows:
            log.write(row, columns)


def test_empty_cells_where_nothing_was_computed(tmp_path):
    _write(
        tmp_path,
        0,
        [{"iteration": 1, "loss": 0.5}, {"iteration": 2, "loss": 0.25, "validation_loss": 1.0}],
    )
    assert (tmp_path / "log.csv").read_text() == (
        "iteration,loss,validation_loss\n1,0.5,\n2,0.25,1\n"
    )
    assert read_log(tmp_path / "log.csv")[0] == {"iteration": 1.0, "loss": 0.5}
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_rows_after_the_resumed_iteration_are_dropped(tmp_path):
    """Killed in the middle of line 4; the last checkpoint is that of iteration 2."""
    _write(tmp_path, 0, [{"iteration": i, "loss": float(i)} for i in (1, 2, 3)])
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4,0.")
    _write(tmp_path, 2, [{"iteration": i, "loss": 10.0 * i} for i in (3, 4)])
    rows = read_log(tmp_path / "log.csv")
    assert [(row["iteration"], row["loss"]) for row in rows] == [(1, 1), (2, 2), (3, 30), (4, 40)]


def test_columns_that_come_later_are_added(tmp_path):
    _write(tmp_path, 0, [{"iteration": 1, "loss": 1.0}])
    with TrainingLog(tmp_path, 1) as log:
        row = {"iteration": 2, "loss_patch": 0.5}
        log.write(row, row)
    assert (tmp_path / "log.csv").read_text() == ("iteration,loss,loss_patch\n1,1,\n2,,0.5\n")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StageError, match=r"cannot write the log: .*free space"):
        TrainingLog(tmp_path / "file" / "logs", 0)
