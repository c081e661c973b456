"""Perfect predictions give perfect points and connections; vectors turn; targets; loss."""

import numpy as np
import pytest
import torch

from instaseg.data.config import DataSettings
from instaseg.data.points import PointLayers
from instaseg.errors import ConfigError
from instaseg.geometry import Symmetry, whole
from instaseg.io.points import make_points, positions
from instaseg.io.quantise import quantise
from instaseg.methods.synapses.config import PointSettings, SynapsesSettings
from instaseg.methods.synapses.method import SynapsesMethod, VectorHead
from instaseg.metrics.points import score_points
from instaseg.models.config import ModelSettings
from instaseg.stages.results.points import painted_points

SPACING = (4.0, 1.0, 1.0)
SHAPE = (10, 40, 44)


def points_of(found, **settings):
    (table,) = found.method.label(found.prediction, [PointSettings(**settings)])
    return table


@pytest.mark.parametrize("kind", ["pre_post", "post_vector"])
@pytest.mark.parametrize("seed", [0, 1])
def test_perfect_predictions_score_one(kind, seed, perfect, draw_sites):
    sites = draw_sites(seed)
    table = points_of(perfect(sites, kind=kind))
    scores = score_points(sites, table, spacing=SPACING, tolerance=2.0)
    assert [scores[name]["F1"] for name in ("pre", "post", "connections")] == [1, 1, 1]
    assert scores["connections"]["distance"] < 0.1


def test_sections_are_two_dimensional(perfect, draw_sites):
    sites = draw_sites()
    flat = np.delete(sites, 1, axis=1)
    table = points_of(perfect(flat, shape=SHAPE[1:]))
    scores = score_points(flat, table, spacing=SPACING[1:], tolerance=1.5)
    assert [scores[name]["F1"] for name in ("pre", "post", "connections")] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["post", "cleft"])
def test_single_sites(kind, perfect):
    rows = make_points(("pre", "post", "cleft").index(kind), [[3, 9, 9], [4, 30, 12]])
    table = points_of(perfect(rows, kind=kind))
    assert table[:, 0].tolist() == rows[:, 0].tolist()
    assert positions(table).tolist() == positions(rows).tolist()


def test_bytes_give_the_same_points(sites, perfect):
    found = perfect(sites)
    expected = points_of(found)
    for name in ("pre", "post"):
        found.prediction[name] = quantise(
            found.prediction[name].astype(np.float32), np.dtype("uint8")
        )
    assert np.array_equal(positions(points_of(found)), positions(expected))


def test_a_limit_on_distance_leaves_sites_alone(sites, perfect):
    table = points_of(perfect(sites), max_pair_distance=2.0)
    assert (table[:, -1] == -1).all()
    assert len(table) == len(sites)
    assert not len(points_of(perfect(sites), max_pair_distance=2.0, unpaired="drop"))


def test_long_vectors_give_no_presynaptic_site(sites, perfect):
    table = points_of(perfect(sites, kind="post_vector"), max_pair_distance=2.0)
    assert set(table[:, 0]) == {1}


@pytest.mark.parametrize("how", ["value", "relative", "otsu"])
def test_every_kind_of_threshold_finds_the_sites(sites, how, perfect):
    table = points_of(perfect(sites), threshold_by=how)
    assert len(table) == len(sites)
    assert (table[:, -2] > 0).all()


def test_painted_clefts_are_components(build):
    labels = np.zeros((6, 20, 20), np.uint16)
    labels[1:4, 2:5, 3:12], labels[2, 12:18, 15] = 1, 2
    method = build(kind="cleft", cleft_target="masks")
    blobs = method.targets(labels[np.newaxis], method.spacing)["blobs"]
    assert np.array_equal(blobs[0] > 0, labels > 0)
    (table,) = method.label({"cleft": blobs.astype(np.float16)}, [PointSettings()])
    assert np.array_equal(positions(table), positions(painted_points(labels)))
    assert positions(table)[0].tolist() == [2, 3, 7]
    (large,) = method.label({"cleft": blobs.astype(np.float16)}, [PointSettings(min_voxels=10)])
    assert len(large) == 1


def test_nothing_predicted_gives_no_points(build):
    method = build(kind="post_vector")
    nothing = {
        "post": np.zeros((1, *SHAPE), np.float16),
        "vectors": np.ones((3, *SHAPE), np.float16),
    }
    (table,) = method.label(nothing, [PointSettings()])
    assert table.shape == (0, 7)


def test_heads_are_one_for_each_site_and_one_for_vectors(build):
    heads = build(kind="post_vector").heads
    assert [(h.name, h.channels, h.activation, h.key) for h in heads] == [
        ("post", 1, "sigmoid", "volumes/pred_post"),
        ("vectors", 3, "none", "volumes/pred_vectors"),
    ]


@pytest.mark.parametrize(
    "symmetry",
    [
        Symmetry((0, 1, 2), (False, True, False)),
        Symmetry((0, 2, 1), (True, False, True)),
        Symmetry((0, 2, 1), (False, True, False)),
    ],
)
def test_vectors_turn_with_the_image(symmetry, build):
    settings = {"kind": "post_vector", "partner_distance": 8.0}
    method = build(**settings)
    shape = (8, 24, 24)
    table = make_points([0, 1], [[4, 12, 10], [3, 14, 15]], partner=[-1, 0])
    context = method.context[1:]
    assert context[0] == context[1]
    labels = PointLayers(table, shape).in_box(whole(shape).grow(method.context))
    turned = method.targets(symmetry.apply(labels), method.spacing)["vectors"]
    head = method.heads[-1]
    assert isinstance(head, VectorHead)
    straight = method.targets(labels, method.spacing)["vectors"]
    assert np.allclose(head.turn(straight, symmetry), turned, atol=1e-6)


def test_context_holds_what_changes_the_targets(build):
    assert build().context == (1, 4, 4)
    # a site up to 5 away, and its partner up to 8 away from that
    assert build(kind="post_vector", vector_radius=5.0).context == (4, 14, 14)


def test_the_loss_falls_to_its_parts(sites, build):
    method = build(kind="post_vector")
    labels = PointLayers(sites, SHAPE).in_box(whole(SHAPE).grow(method.context))
    targets = {k: torch.from_numpy(v)[None] for k, v in method.targets(labels, SPACING).items()}
    batch = {**targets, "mask": torch.ones((1, *SHAPE), dtype=torch.bool)}
    logits = {
        "post": torch.logit(targets["blobs"], eps=1e-6),
        "vectors": targets["vectors"].clone().requires_grad_(),
    }
    total, parts = method.loss(logits, batch)
    assert sorted(parts) == ["blobs", "vectors"]
    assert parts["vectors"] < 1e-5
    wrong = {**logits, "vectors": targets["vectors"] + 0.5}
    assert method.loss(wrong, batch)[1]["vectors"] == pytest.approx(0.5 * 3**0.5, rel=1e-3)
    total.backward()
    assert torch.isfinite(logits["vectors"].grad).all()
    unknown = {**batch, "mask": torch.zeros_like(batch["mask"])}
    assert method.loss(wrong, unknown)[0] == 0


def test_the_share_of_blobs_does_not_depend_on_their_number(build):
    method = build(kind="post", positive_share=0.25)
    target = torch.zeros((1, 1, 1, 10, 10))
    target[0, 0, 0, 3, 3] = 1
    batch = {"blobs": target, "mask": torch.ones((1, 1, 10, 10), dtype=torch.bool)}
    zero, one = torch.full_like(target, -20.0), torch.full_like(target, 20.0)
    assert method.loss({"post": zero}, batch)[0] == pytest.approx(0.25 * 20)
    assert method.loss({"post": one}, batch)[0] == pytest.approx(0.75 * 20)


def test_quality_is_the_contrast_at_sites(sites, perfect):
    found = perfect(sites)
    quality = found.method.prediction_quality(found.prediction, sites, None)
    assert sorted(quality) == sorted(found.method.quality_names)
    assert all(value > 0.9 for value in quality.values())


def test_the_voxel_size_is_needed():
    model = ModelSettings()
    with pytest.raises(ConfigError, match=r"\[data\] voxel_size: expected the physical size"):
        SynapsesMethod(
            SynapsesSettings(kind="post", blob_radius=2), model=model, data=DataSettings()
        )
