import numpy as np
import pytest
import torch

from instaseg.data.crops import CropImage
from instaseg.errors import ConfigError
from instaseg.geometry import Box, identity, plane_rotations_and_flips
from instaseg.inference.config import PredictionSettings
from instaseg.inference.predict import Predictor, predict_sample
from instaseg.methods import METHODS, load
from instaseg.methods.deep_watershed.config import DeepWatershedSettings, LabelSettings
from instaseg.methods.deep_watershed.method import DirectionHead
from instaseg.methods.deep_watershed.targets import make_targets
from instaseg.models.config import ModelSettings

HEAD = DirectionHead("directions", 2, "none", "volumes/pred_directions")
STAGES = {"network": "stages", "levels": 4}


def test_the_table_of_methods_has_it():
    entry = METHODS["deep_watershed"]
    assert load(entry.settings) is DeepWatershedSettings
    assert load(entry.labelling) is LabelSettings
    assert load(entry.implementation).result == "instances"


def test_heads_follow_from_the_settings(make_method):
    plain = make_method(ndim=3, edges=(0.5, 1.5, 2.5))
    assert [(h.name, h.channels, h.activation) for h in plain.heads] == [
        ("foreground", 1, "sigmoid"),
        ("directions", 3, "none"),
        ("depth", 3, "sigmoid"),
    ]
    published = make_method(edges=(0.5, 1.5, 2.5), wall_width=3, depth="classes")
    assert [(h.name, h.channels, h.activation) for h in published.heads] == [
        ("foreground", 3, "softmax"),
        ("directions", 2, "none"),
        ("depth", 4, "softmax"),
    ]


def test_context_reaches_as_far_as_the_last_edge(make_method):
    assert make_method(edges=(0.5, 7.5)).context == (11, 11)
    assert make_method(edges=(0.5, 7.5), wall_width=5).context == (13, 13)
    deep = make_method(ndim=3, edges=(0.5, 7.5), voxel_size=(2.0, 1.0, 1.0))
    assert deep.context == (6, 11, 11)


def test_turning_moves_and_turns_vectors():
    """One vector (1, 0), downwards, in the upper left; quarter turns take it around."""
    vectors = np.zeros((2, 3, 3))
    vectors[0, 0, 0] = 1
    rotation = next(
        s
        for s in plane_rotations_and_flips(2)
        if s.permutation == (1, 0) and s.flips == (True, False)
    )
    assert np.array_equal(
        rotation.apply(np.eye(3)[:1].repeat(3, 0)), np.rot90(np.eye(3)[:1].repeat(3, 0))
    )
    turned = HEAD.turn(vectors, rotation)
    # counter-clockwise: the voxel goes to the lower left, downwards becomes rightwards
    assert turned[:, 2, 0].tolist() == [0, 1]
    assert np.abs(turned).sum() == 1


@pytest.mark.parametrize("symmetry", plane_rotations_and_flips(2))
def test_turning_back_gives_the_vectors_again(symmetry):
    vectors = np.random.default_rng(0).normal(size=(2, 4, 5))
    back = HEAD.turn(HEAD.turn(vectors, symmetry), symmetry.inverse())
    assert np.array_equal(back, vectors)
    assert np.array_equal(HEAD.turn(vectors, identity(2)), vectors)


class Slope(torch.nn.Module):
    """Predicts the direction in which the image gets brighter; a turned image, turned vectors."""

    def forward(self, image):
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        return {"directions": torch.cat([dy, dx], dim=1)}


def test_averages_over_turned_images_keep_directions():
    """Scalars would be averaged to nothing."""
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((2, 2),),
        num_repetitions=1,
        padding="same",
        train_input_shape=(16, 16),
        test_input_shape=(48, 48),
    )
    raw = np.random.default_rng(1).normal(size=(1, 20, 24)).astype(np.float32)
    written = {}
    for symmetries in ("none", "flips", "flips_and_rotations"):
        predictor = Predictor(
            Slope(), [HEAD], model, PredictionSettings(symmetries=symmetries), torch.device("cpu")
        )
        written[symmetries] = np.zeros((2, 20, 24), np.float32)
        predict_sample(
            predictor,
            raw,
            normalize=lambda block: block,
            writers={"directions": written[symmetries]},
            margin=(0, 0),
        )
    inner = (slice(None), slice(1, -1), slice(1, -1))
    for symmetries in ("flips", "flips_and_rotations"):
        assert np.allclose(written[symmetries][inner], written["none"][inner], atol=5e-3)
    assert np.abs(written["none"]).max() > 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"background": "label", "wall_width": 3},
        {"depth": "classes", "losses": "published", "wall_width": 5},
        {**STAGES, "losses": "published", "depth": "classes", "wall_width": 5},
        {**STAGES, "gate": "soft", "background": "label"},
    ],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_losses_of_all_heads_have_gradients(make_method, cells, settings, ndim):
    method = make_method(ndim=ndim, edges=(0.5, 1.2, 2.5, 4.5), **settings)
    torch.manual_seed(0)
    side = 16 if ndim == 3 else 32
    wide = [side + 2 * c for c in method.context]
    labels = cells.as_layers(cells.draw_cells("astro", 1, shape=tuple(wide[-2:])), tuple(wide[-2:]))
    labels = labels if ndim == 2 else np.repeat(labels[:, None], wide[0], axis=1)
    targets = method.targets(labels, (1,) * ndim)
    assert {name: len(target) for name, target in targets.items()} == {
        "classes": 1,
        "directions": ndim,
        "levels": 1,
        "areas": 1,
    }
    assert all(target.shape[1:] == (side,) * ndim for target in targets.values())
    batch = {name: torch.from_numpy(target)[None] for name, target in targets.items()}
    batch["labels"] = torch.from_numpy(labels)[None]
    batch["mask"] = torch.ones(1, *(side,) * ndim, dtype=torch.bool)
    network = method.build_network()
    outputs = network(torch.rand(1, 1, *(side,) * ndim))
    assert {name: value.shape[1] for name, value in outputs.items()} == {
        head.name: head.channels for head in method.heads
    }
    total, parts = method.loss(outputs, batch)
    assert set(parts) == {"foreground", "directions", "depth"}
    total.backward()
    assert torch.isfinite(total)
    with_gradient = [
        w.grad is not None and bool(w.grad.abs().sum() > 0) for w in network.parameters()
    ]
    assert sum(with_gradient) > 0.5 * len(with_gradient)


def around(method, shape):
    """Return labels of a crop of this shape, with context, of an image that goes on beyond it."""
    return torch.ones(1, 1, *(n + 2 * c for n, c in zip(shape, method.context, strict=True)))


def test_a_loss_counts_the_heads_it_is_given(make_method):
    method = make_method(depth_weight=2.0, edges=(0.5, 1.5))
    batch = {
        "classes": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "levels": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "areas": torch.ones(1, 1, 4, 4),
        "directions": torch.zeros(1, 2, 4, 4),
        "labels": around(method, (4, 4)),
        "mask": torch.ones(1, 4, 4, dtype=torch.bool),
    }
    total, parts = method.loss({"depth": torch.zeros(1, 2, 4, 4)}, batch)
    assert list(parts) == ["depth"]
    assert total == 2 * parts["depth"]


def test_where_labels_are_incomplete_only_what_is_labelled_counts(make_method):
    method = make_method(edges=(0.5, 1.5), foreground_weight=1.0)
    classes = torch.zeros(1, 1, 2, 4, dtype=torch.uint8)
    classes[..., :2] = 1
    batch = {
        "classes": classes,
        "levels": classes,
        "areas": classes.float(),
        "directions": torch.zeros(1, 2, 2, 4),
        "labels": around(method, (2, 4)),
        "mask": torch.zeros(1, 2, 4, dtype=torch.bool),
    }
    logits = torch.zeros(1, 1, 2, 4, requires_grad=True)
    method.loss({"foreground": logits}, batch)[0].backward()
    assert (logits.grad[..., :2] != 0).all()
    assert not logits.grad[..., 2:].any()


def test_predictions_as_stored_give_instances(make_method, cells):
    for settings in ({}, {"wall_width": 3, "depth": "classes"}):
        method = make_method(**settings)
        shape = (100, 110)
        truth = cells.as_layers(cells.draw_cells("cort", 4, shape=shape, overlaps=False), shape)
        edges = method.settings.edges
        made = make_targets(truth, (1, 1), edges=edges, wall_width=method.settings.wall_width)
        if settings:
            depth = np.stack([made.levels == k for k in range(len(edges) + 1)])
            foreground = np.stack([made.classes == k for k in range(3)])
        else:
            depth = np.stack([made.levels > k for k in range(len(edges))])
            foreground = made.classes[None] > 0
        for dtype, one in ((np.float16, 1), (np.uint8, 255)):
            prediction = {
                "foreground": foreground.astype(dtype) * dtype(one),
                "depth": depth.astype(dtype) * dtype(one),
                "directions": made.directions.astype(np.float16),
            }
            first, second = method.label(prediction, [LabelSettings(), LabelSettings(cut=90.0)])
            assert first.max() == len(np.unique(truth)) - 1
            assert not second.any()
            scores = method.prediction_quality(prediction, truth[0], None)
            channels = (truth[0] == np.unique(truth)[1:].reshape(-1, *(1,) * (truth.ndim - 1))) * 1
            assert method.prediction_quality(prediction, channels, None) == scores
            assert set(scores) == set(method.quality_names)
            assert scores["foreground.IoU"] == pytest.approx(1)
            assert scores["directions.cosine"] == pytest.approx(1, abs=1e-3)
            assert scores["depth.accuracy"] == pytest.approx(1)


def test_quality_of_an_image_without_cells(make_method):
    method = make_method(edges=(0.5, 1.5))
    nothing = {
        "foreground": np.zeros((1, 8, 8), np.float16),
        "depth": np.zeros((2, 8, 8), np.float16),
        "directions": np.zeros((2, 8, 8), np.float16),
    }
    assert method.prediction_quality(nothing, np.zeros((8, 8), int), None) == {}


def test_shared_network_gives_unit_vectors(make_method):
    outputs = make_method().build_network()(torch.rand(1, 1, 32, 32))
    assert torch.allclose(outputs["directions"].norm(dim=1), torch.ones(1, 32, 32), atol=1e-4)


def test_labels_are_read_as_far_as_directions_of_the_background(make_method):
    near = make_method(edges=(0.5, 2.5), background_reach=10.0)
    far = make_method(edges=(0.5, 2.5), background_reach=10.0, background="label")
    assert [b - a for a, b in zip(near.context, far.context, strict=True)] == [7, 7]


def test_stages_want_same_padding(make_method):
    with pytest.raises(
        ConfigError, match=r'padding: expected "same" where method.network = "stages"'
    ):
        make_method(levels=1, padding="valid", network="stages")


def test_a_crop_at_the_border_sees_nothing_beyond_it(make_method):
    """Not a cell's mirror image, which would carve a wall into it."""
    method = make_method(wall_width=5, edges=(0.5, 2.5, 6.5))
    labels = np.zeros((40, 40), np.int32)
    labels[1:9, 5:15], labels[10:20, 5:15] = 1, 2
    image = CropImage(
        raw=np.zeros((1, 40, 40), np.float32),
        labels=labels[None],
        mask=None,
        statistics=None,
        resolution=(1, 1),
        beyond="unknown",
    )
    core = Box((0, 0), (32, 32))
    found = method.targets(image.crop_labels(core.grow(method.context)), (1, 1))
    whole_image = make_targets(labels[None], (1, 1), edges=(0.5, 2.5, 6.5), wall_width=5)
    np.testing.assert_array_equal(found["classes"][0], whole_image.classes[:32, :32])
    np.testing.assert_array_equal(found["levels"][0], whole_image.levels[:32, :32])
    np.testing.assert_allclose(found["directions"], whole_image.directions[:, :32, :32], atol=1e-6)
