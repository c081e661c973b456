"""Overlapping ground truth is refused where a method that keeps instances apart would learn it."""

from types import SimpleNamespace

import numpy as np
import pytest

from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.inference.config import PredictionSettings
from instaseg.io.arrays import write_array
from instaseg.io.samples import find_samples
from instaseg.metrics.config import EvaluationSettings
from instaseg.stages.context import Dataset
from instaseg.stages.plan import check_data
from instaseg.stages.table import expand


@pytest.fixture
def crossing(tmp_path):
    """Return a data set of one sample with two bars that cross."""
    instances = np.zeros((2, 20, 20), np.uint8)
    instances[0, 9:11], instances[1, :, 9:11] = 1, 1
    write_array(tmp_path / "a.zarr", "volumes/raw", np.arange(400, dtype=np.uint16).reshape(20, 20))
    write_array(tmp_path / "a.zarr", "volumes/gt_instances", instances)
    return tmp_path


def context_of(folder, *, overlapping, val_log_step=0, boundaries="skip"):
    data = DataSettings(train_data=folder, val_data=folder, test_data=folder)
    return SimpleNamespace(
        config=SimpleNamespace(
            data=data,
            training=SimpleNamespace(val_log_step=val_log_step),
            prediction=PredictionSettings(),
            evaluation=EvaluationSettings(boundaries=boundaries),
        ),
        method=SimpleNamespace(
            overlapping=overlapping,
            labels_may_overlap=overlapping,
            context=(2, 2),
            labels_beyond="mirrored",
            result="instances",
            instance_classes=0,
        ),
        method_spec=SimpleNamespace(truth="labels"),
        dataset=lambda role: Dataset(role, tuple(find_samples(folder, data))),
    )


@pytest.mark.parametrize(("val_log_step", "faults"), [(0, 1), (10, 2)])
def test_training_on_overlaps_needs_a_method_that_counts(crossing, val_log_step, faults):
    context = context_of(crossing, overlapping=False, val_log_step=val_log_step)
    with pytest.raises(DataError) as caught:
        check_data(expand(["train"]), context)
    wanted = "needs the method patches with method.foreground = 'count'"
    assert str(caught.value).count(wanted) == faults
    check_data(expand(["train"]), context_of(crossing, overlapping=True, val_log_step=10))


def test_any_method_may_be_scored_on_overlaps(crossing):
    check_data(expand(["validate", "evaluate"]), context_of(crossing, overlapping=False))


def test_boundaries_are_not_scored_on_overlaps(crossing):
    context = context_of(crossing, overlapping=True, boundaries="sections")
    with pytest.raises(DataError, match="scores of boundaries have no meaning there"):
        check_data(expand(["evaluate"]), context)
    check_data(expand(["train"]), context)
