"""Settings that do not go together."""

import pytest
from pydantic import ValidationError

from instaseg.data.config import DataSettings
from instaseg.methods.synapses.config import (
    PointSettings,
    SynapsesSettings,
    disagreements,
    scored_of,
    truth,
)
from instaseg.metrics.config import PointEvaluationSettings


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "partner_distance must be given where kind = 'pre_post'"),
        ({"kind": "post_vector"}, "partner_distance must be given where kind = 'post_vector'"),
        ({"kind": "post", "cleft_target": "masks"}, "cleft_target must be 'blobs' where kind ="),
    ],
)
def test_kinds_need_their_keys(given, text):
    with pytest.raises(ValidationError, match=text):
        SynapsesSettings(blob_radius=3, **given)


def test_only_painted_clefts_are_no_points():
    painted = SynapsesSettings(blob_radius=3, kind="cleft", cleft_target="masks")
    assert truth(painted) == "clefts"
    assert truth(SynapsesSettings(blob_radius=3, kind="cleft")) == "points"


def test_voxel_size_and_metric_have_to_fit():
    method = SynapsesSettings(blob_radius=3, kind="cleft")
    tables = {
        "method": method,
        "data": DataSettings(),
        "evaluation": PointEvaluationSettings(tolerance=3),
    }
    found = dict(disagreements(tables))
    assert sorted(found) == [("data", "voxel_size"), ("evaluation", "metric")]
    assert "must be a score of cleft because method.kind = 'cleft'" in found["evaluation", "metric"]
    fitting = {
        "method": method,
        "data": DataSettings(voxel_size=[1, 1]),
        "evaluation": PointEvaluationSettings(tolerance=3, metric="cleft.F1"),
    }
    assert list(disagreements(fitting)) == []
    assert scored_of(method) == ("cleft",)


def test_keys_that_only_other_kinds_use_are_refused():
    tables = {
        "method": SynapsesSettings(kind="post", blob_radius=40, vector_radius=50),
        "vote_instances": PointSettings(min_voxels=9),
    }
    messages = dict(disagreements(tables))
    assert "no effect with kind = 'post'; got 50.0" in messages["method", "vector_radius"]
    assert "with sites that are peaks; got 9" in messages["vote_instances", "min_voxels"]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("pre_post", ("cleft_threshold", "cluster_distance")),
        ("post_vector", ("cleft_threshold", "pre_threshold")),
        (
            "cleft",
            (
                *("cluster_distance", "max_pair_distance", "neurons_key"),
                *("post_threshold", "pre_threshold", "unpaired"),
            ),
        ),
    ],
)
def test_keys_of_sites_and_connections_that_are_not_predicted_are_refused(kind, keys):
    label = PointSettings(
        pre_threshold=0.3,
        post_threshold=0.3,
        cleft_threshold=0.3,
        cluster_distance=2,
        max_pair_distance=2,
        unpaired="drop",
        neurons_key="a",
    )
    method = SynapsesSettings(kind=kind, blob_radius=40, partner_distance=50)
    found = dict(disagreements({"method": method, "vote_instances": label}))
    assert sorted(key for _, key in found) == sorted(keys)
    assert all(f"has no effect with kind = '{kind}'" in message for message in found.values())
    left_out = {"method": method, "vote_instances": PointSettings()}
    assert list(disagreements(left_out)) == []
