"""Points as a result: painted clefts, neurons that connections must not lie in."""

from dataclasses import replace

import numpy as np
import pytest

from instaseg.blockwise.memory import run_here
from instaseg.data.config import DataSettings
from instaseg.errors import DataError
from instaseg.io.arrays import write_array
from instaseg.io.points import make_points
from instaseg.io.samples import Sample, Source
from instaseg.methods.build import MethodSpec
from instaseg.methods.synapses.config import PointSettings, SynapsesSettings
from instaseg.metrics.config import PointEvaluationSettings
from instaseg.metrics.points import pooled_point_scores
from instaseg.models.config import ModelSettings
from instaseg.stages.results.kind import Subject
from instaseg.stages.results.points import (
    painted_points,
    refine,
    require_sites,
    score,
    write_matches,
)


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


def spec(**settings):
    given = {"blob_radius": 3.0, "partner_distance": 9.0, **settings}
    data = DataSettings(ndim=2, voxel_size=(1.0, 1.0))
    return MethodSpec(SynapsesSettings(**given), ModelSettings(), data)


def subject_of(sample):
    return Subject(sample, spec(), PointEvaluationSettings(tolerance=1.5))


@pytest.fixture
def masked(sample):
    """Return the sample with a mask that is 0 from column 6 on."""
    mask = np.ones((8, 10), np.uint8)
    mask[:, 6:] = 0
    write_array(sample.raw.path, "volumes/mask", mask)
    return replace(sample, mask=Source(sample.raw.path, "volumes/mask"))


def counts(scores, name):
    return [scores[name][key] for key in ("TP", "FP", "FN")]


def test_points_outside_of_the_mask_are_not_scored(sample, masked, table):
    # two of the true points are in the mask, and two of the predicted ones; 5.4 lies in column 5
    predicted = make_points(
        [0, 1, 0, 1, 1], [[1, 1], [1, 4], [6, 8], [6, 5.4], [3, 9]], partner=[-1, 0, -1, 2, 2]
    )
    everywhere = score(table, predicted, subject_of(sample), run_here)
    assert counts(everywhere, "pre") == [2, 0, 0]
    assert counts(everywhere, "post") == [1, 2, 2]
    assert counts(everywhere, "connections") == [1, 2, 2]
    inside = score(table, predicted, subject_of(masked), run_here)
    assert counts(inside, "pre") == [1, 0, 0]
    assert counts(inside, "post") == [1, 1, 0]
    assert counts(inside, "connections") == [1, 0, 0]


def read_tables(folder):
    return {path.name: path.read_text().splitlines() for path in folder.iterdir()}


def test_tables_of_matches_and_of_connections(masked, table, tmp_path):
    predicted = make_points(
        [2, 0, 1, 1, 1], [[7, 9], [1, 1], [1, 4], [5, 5], [3, 9]], partner=[-1, -1, 1, 1, 1]
    )
    write_matches(table, predicted, subject_of(masked), tmp_path / "scores" / "a.toml")
    tables = read_tables(tmp_path / "scores" / "point_associations")
    assert sorted(tables) == [
        f"a_{name}_{ending}.csv"
        for name in ("connections", "post", "pre")
        for ending in ("fp", "gt_assoc")
    ]
    # ids are rows of the tables, also after rows that lie outside of the mask
    assert tables["a_post_gt_assoc.csv"] == [
        "gt_id,pred_id,distance,tag,axis-0,axis-1,pred_axis-0,pred_axis-1",
        "1,2,1,TP,1,3,1,4",
    ]
    assert tables["a_post_fp.csv"] == ["pred_id,axis-0,axis-1", "3,5,5"]
    assert tables["a_connections_gt_assoc.csv"] == [
        "gt_pre_id,gt_post_id,pred_pre_id,pred_post_id,distance,tag,"
        "pre_axis-0,pre_axis-1,post_axis-0,post_axis-1,"
        "pred_pre_axis-0,pred_pre_axis-1,pred_post_axis-0,pred_post_axis-1",
        "0,1,1,2,1,TP,1,1,1,3,1,1,1,4",
    ]
    assert tables["a_connections_fp.csv"] == [
        "pred_pre_id,pred_post_id,pre_axis-0,pre_axis-1,post_axis-0,post_axis-1",
        "1,3,1,1,5,5",
    ]


def with_points(sample, name, table):
    key = f"volumes/{name}"
    write_array(sample.raw.path, key, table)
    return replace(sample, name=name, labels=Source(sample.raw.path, key), truth="points")


def test_a_data_set_without_what_is_learnt_is_refused(sample, table, tmp_path):
    empty = with_points(sample, "empty", table[:0])
    full = with_points(sample, "full", table)
    require_sites([empty, full], spec())
    require_sites([empty], spec(kind="cleft", cleft_target="masks"))
    with pytest.raises(DataError) as caught:
        require_sites([empty, full], spec(kind="cleft"))
    assert str(caught.value) == (
        f"{tmp_path}: expected points of kind cleft in at least one sample, because method.kind ="
        " 'cleft' learns them; found 2 pre, 3 post, 0 cleft. Set method.cleft_target = \"masks\" if"
        " clefts are painted as labels, or add points"
    )
    with pytest.raises(DataError, match=r"of kind pre and post in .*Add them, or set another"):
        require_sites([empty], spec())
    lone = with_points(sample, "lone", make_points(1, [[1, 1]]))
    require_sites([lone], spec(kind="post"))
    with pytest.raises(DataError, match="points of kind pre in at least one sample"):
        require_sites([lone], spec(kind="post_vector"))


def test_what_is_not_predicted_has_no_score(sample, table):
    clefts = MethodSpec(
        SynapsesSettings(kind="cleft", blob_radius=3.0), ModelSettings(), DataSettings(ndim=2)
    )
    subject = replace(subject_of(sample), method=clefts)
    scores = score(table, make_points([2], [[1, 1]]), subject, run_here)
    assert counts(scores, "cleft") == [0, 1, 0]
    assert np.isnan(list(scores["connections"].values())).all()
    pooled = pooled_point_scores([scores, scores])
    assert counts(pooled, "cleft") == [0, 2, 0]
    assert np.isnan(list(pooled["pre"].values())).all()
