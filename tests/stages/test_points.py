"""Points as a result: painted clefts, neurons that connections must not lie in."""

import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.io.arrays import write_array
from instaseg.io.points import make_points
from instaseg.io.samples import Sample, Source
from instaseg.methods.synapses.config import PointSettings
from instaseg.stages.results.points import painted_points, refine


@pytest.fixture
def sample(tmp_path):
    """Return a sample with one neuron in its left half and one in its right half."""
    path = tmp_path / "a.zarr"
    neurons = np.full((8, 10), 2**63 + 5, np.uint64)
    neurons[:, :5] = 7
    write_array(path, "volumes/raw", np.zeros((1, 8, 10), np.uint8))
    write_array(path, "volumes/neurons", neurons)
    write_array(path, "volumes/small", neurons[:4])
    return Sample("a", Source(path, "volumes/raw"), None, None, (1.0, 1.0), ("nm", "nm"))


@pytest.fixture
def table():
    """Return a connection inside of each neuron, and one from the left to the right one."""
    places = [[1, 1], [1, 3], [1, 7], [6, 8], [6, 9]]
    return make_points([0, 1, 1, 0, 1], places, partner=[-1, 0, 0, -1, 3])


def test_connections_inside_a_neuron_are_dropped(sample, table):
    kept = refine(sample, PointSettings(neurons_key="volumes/neurons"), table)
    assert kept[:, 1:3].tolist() == [[1, 1], [1, 7]]
    assert kept[:, -1].tolist() == [-1, 0]
    assert refine(sample, PointSettings(), table) is table


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("volumes/neuron", "no array 'volumes/neuron'.*did you mean 'volumes/neurons'"),
        ("volumes/small", r"uint64 of shape \(4, 10\); expected whole numbers of shape \(8, 10\)"),
    ],
)
def test_unfit_neurons_are_refused(sample, table, key, text):
    with pytest.raises(DataError, match=text):
        refine(sample, PointSettings(neurons_key=key), table)


def test_painted_clefts_are_their_centroids():
    labels = np.zeros((5, 9), np.uint16)
    labels[1, 1:4] = labels[2, 4] = 3  # connected by a corner
    labels[2, 5] = 4  # another label
    assert painted_points(labels)[:, 1:3].tolist() == [[1.25, 2.5], [2, 5]]
    assert painted_points(np.zeros((5, 9), bool)).shape == (0, 6)
