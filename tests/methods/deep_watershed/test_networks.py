import pytest
import torch
from torch import nn

from instaseg.errors import ConfigError
from instaseg.methods.deep_watershed.networks import (
    DirectionNet,
    StagedNetwork,
    WatershedNet,
    corrupt,
    foreground_probability,
)


class Brightness(nn.Module):
    """Foreground, three classes, where the image is bright."""

    def forward(self, image):
        inside = (image[:, :1] > 0).float() * 20 - 10
        return {"foreground": torch.cat([-inside, inside, torch.full_like(inside, -20)], dim=1)}


class Recorder(nn.Module):
    """Stands for a network: keeps what it sees, answers with ones."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.seen = None

    def forward(self, image):
        self.seen = image
        return image.new_ones(len(image), self.channels, *image.shape[2:])


def staged(gate, corruption=0.0, noise=0.0):
    networks = Brightness(), Recorder(2), Recorder(5)
    return StagedNetwork(*networks, gate=gate, corruption=corruption, noise=noise)


@pytest.fixture
def image():
    """Return an image that is bright, and not all alike, in its left half."""
    values = -torch.ones(1, 1, 16, 32)
    values[..., :16] = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) + 0.5
    return values


@pytest.mark.parametrize("ndim", [2, 3])
def test_sizes_stay_and_widths_are_as_asked(ndim):
    shape = (16, 32, 48)[-ndim:] if ndim == 3 else (32, 48)
    image = torch.rand(1, 2, *shape)
    directions = DirectionNet(2, ndim=ndim, fmaps=2)(image)
    assert directions.shape == (1, ndim, *shape)
    assert WatershedNet(7, ndim=ndim, fmaps=2)(directions).shape == (1, 7, *shape)


def test_published_sizes():
    """36.3 and 1.88 million weights, as counted in the published programs."""
    for network, millions in (
        (DirectionNet(4, ndim=2, fmaps=64), 36.3),
        (WatershedNet(17, ndim=2, fmaps=64), 1.88),
    ):
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(
            millions, rel=0.01
        )


def test_transposed_convolutions_begin_as_interpolation():
    network = WatershedNet(3, ndim=2, fmaps=2)
    enlarge = network.layers[-1]
    flat = torch.ones(1, 3, 5, 6) * torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    large = enlarge(flat)
    assert large.shape == (1, 3, 20, 24)
    inner = large[..., 4:-4, 4:-4]
    assert torch.allclose(inner, torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1).expand_as(inner))


def test_logits_of_the_watershed_net_may_be_negative():
    torch.manual_seed(0)
    network = WatershedNet(6, ndim=2, fmaps=4).eval()
    assert (network(torch.randn(1, 2, 16, 16)) < 0).any()


def test_hard_gate_shows_and_gives_nothing_outside(image):
    network = staged("hard")
    outputs = network(image)
    seen = network.directions.seen
    assert seen.shape == (1, 2, 16, 32)
    assert torch.equal(seen[0, 1, :, :16], torch.ones(16, 16))
    assert not seen[..., 16:].any()
    length = outputs["directions"].norm(dim=1)
    assert torch.allclose(length[..., :16], torch.ones(1, 16, 16))
    assert not length[..., 16:].any()


def test_soft_gate_leaves_the_image_and_adds_a_channel(image):
    network = staged("soft")
    outputs = network(image)
    seen = network.directions.seen
    assert torch.equal(seen[:, :1], image)
    assert (seen[0, 1, :, :16] > 0.9).all()
    assert (seen[0, 1, :, 16:] < 0.1).all()
    assert torch.allclose(outputs["directions"].norm(dim=1), torch.ones(1, 16, 32))


def test_depth_sees_directions_only(image):
    network = staged("hard")
    outputs = network(image)
    assert torch.equal(network.depth.seen, outputs["directions"])


def test_walls_are_part_of_the_mask_that_is_given(image):
    """Else the separation that the network should find would leak into its input."""
    network = staged("hard")
    classes = torch.zeros(1, 1, 16, 32, dtype=torch.uint8)
    classes[..., 4:10], classes[..., 10:12] = 1, 2
    outputs = network(image, {"classes": classes}, ["directions"])
    assert list(outputs) == ["directions"]
    assert torch.equal(network.directions.seen[0, 1], (classes > 0)[0, 0].float())


def test_true_directions_take_the_place_of_predicted_ones(image):
    network = staged("hard")
    given = torch.randn(1, 2, 16, 32)
    outputs = network(image, {"directions": given}, ["depth"])
    assert list(outputs) == ["depth"]
    assert torch.equal(network.depth.seen, given)
    assert network.directions.seen is None


def test_nothing_is_computed_that_is_not_wanted(image):
    network = staged("hard")
    assert list(network(image, wanted=["foreground"])) == ["foreground"]
    assert network.directions.seen is None
    assert network.depth.seen is None


def test_sides_have_to_be_multiples_of_sixteen():
    with pytest.raises(ConfigError, match=r"sides that are multiples of 16 .* found \[20, 32\]"):
        staged("hard")(torch.zeros(1, 1, 20, 32))


def test_probability_of_the_foreground_joins_cells_and_walls():
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).reshape(1, 3, 1, 1)
    assert foreground_probability(logits).item() == pytest.approx(0.8)
    assert foreground_probability(torch.zeros(1, 1, 1, 1)).item() == 0.5


def test_masks_are_spoilt_in_training_only_and_as_often_as_asked():
    masks = torch.zeros(40, 1, 16, 16)
    masks[..., 4:12, 4:12] = 1
    torch.manual_seed(0)
    assert torch.equal(corrupt(masks, 0.0), masks)
    spoilt = corrupt(masks, 0.5)
    assert set(spoilt.unique().tolist()) == {0, 1}
    changed = (spoilt != masks).flatten(1).any(dim=1)
    assert 8 < changed.sum() < 32
    sizes = {int(one.sum()) for one in spoilt}
    assert {36, 64, 100} <= sizes  # shrunk, as it was, grown
    network = staged("soft", corruption=1.0).eval()
    classes = masks[:1].to(torch.uint8)
    network(torch.zeros(1, 1, 16, 16), {"classes": classes}, ["directions"])
    assert torch.equal(network.directions.seen[:, 1:], masks[:1])


def test_directions_are_turned_a_little_in_training_only():
    torch.manual_seed(0)
    given = torch.zeros(1, 2, 16, 32)
    given[:, 0, :, :16] = 1
    image = torch.zeros(1, 1, 16, 32)
    network = staged("hard", noise=0.3)
    network(image, {"directions": given}, ["depth"])
    seen = network.depth.seen
    assert torch.equal(seen[..., 16:], given[..., 16:])  # there is none to turn
    assert torch.allclose(seen.norm(dim=1)[..., :16], torch.ones(16))
    angles = torch.atan2(seen[0, 1, :, :16], seen[0, 0, :, :16])
    assert abs(angles.mean()) < 0.1
    assert 0.2 < angles.std() < 0.45
    network.eval()
    network(image, {"directions": given}, ["depth"])
    assert torch.equal(network.depth.seen, given)
