"""Ground truth that is not there, or not what it should be."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instaseg.errors import DataError, StageError
from instaseg.io.samples import Sample, Source
from instaseg.stages.results import points
from instaseg.stages.results.instances import listed_dim
from instaseg.stages.results.kind import open_labels
from instaseg.stages.voting import true_classes


@pytest.fixture
def sample(tmp_path):
    """Return a sample that has nothing but an image."""
    raw = Source(tmp_path / "a.zarr", "volumes/raw")
    return Sample("a", raw, None, None, (1.0, 1.0), ("um", "um"))


@pytest.mark.parametrize(
    ("opened", "expected", "remedy"),
    [
        pytest.param(open_labels, "ground truth beside {raw}", "add labels", id="labels"),
        pytest.param(
            lambda sample: points.open_truth(sample, None),
            "sites of synapses beside {raw}",
            "add points (data.points_key)",
            id="points",
        ),
        pytest.param(
            lambda sample: true_classes(sample, np.ones((4, 4), int), 2, (4, 4)),
            "classes of its instances beside {raw} (data.class_key, data.label_channels)",
            "add them",
            id="classes",
        ),
    ],
)
def test_what_is_not_there_is_asked_for(sample, opened, expected, remedy):
    text = (
        f"sample a: expected {expected.format(raw=sample.raw)}, found none; {remedy}, or name other"
        " samples with --sample"
    )
    with pytest.raises(StageError, match=f"^{re.escape(text)}$"):
        opened(sample)


@pytest.mark.parametrize("listed", ["1", [1, 2.0], [True]])
def test_dim_instances_are_listed_by_number(sample, listed):
    assert listed_dim({"dim": [3, 1]}, sample) == (3, 1)
    assert listed_dim({}, sample) == ()
    labels = Source(Path("a.zarr"), "volumes/gt_labels")
    text = (
        f"sample a: attribute 'dim' of {labels} must be a list of whole numbers (labels, or"
        f" channels from 1); got {listed!r}. Correct it, or delete the attribute"
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        listed_dim({"dim": listed}, replace(sample, labels=labels))
