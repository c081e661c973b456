"""Patch codes: what sizes fit, what the decoder computes, and that an autoencoder learns."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, conv3d, interpolate

from instaseg.errors import ConfigError
from instaseg.models.config import CodeSettings
from instaseg.models.decoder import (
    PatchAutoencoder,
    PatchDecoder,
    decoder_weights,
    describe_decoder,
)

PUBLISHED = [
    # 252 = 7 * 6 * 6, 6 -> 11 -> 21 -> 41; 256 = 16 * 4 * 4; 176 = 22 * 2^3 or 176 * 1^3.
    (252, (41, 41), 3, (7, 6, 6)),
    (256, (25, 25), 3, (16, 4, 4)),
    (176, (7, 7, 7), 2, (22, 2, 2, 2)),
    (176, (7, 7, 7), 3, (176, 1, 1, 1)),
]


def code(**changes):
    return CodeSettings(**{"code_units": 24, "decoder_fmaps": (4, 3), **changes})


@pytest.mark.parametrize(("units", "patch_shape", "steps", "code_shape"), PUBLISHED)
@pytest.mark.parametrize("upsampling", ["resize_conv", "trans_conv"])
def test_published_sizes(units, patch_shape, steps, code_shape, upsampling):
    settings = CodeSettings(
        code_units=units, decoder_fmaps=(4,) * steps, upsampling=upsampling, kind="conv"
    )
    decoder = PatchDecoder(settings, patch_shape)
    assert decoder.code_shape == code_shape
    assert decoder(torch.rand(3, units)).shape == (3, math.prod(patch_shape))


def test_sizes_are_halved_and_rounded_up():
    assert code().sizes((41, 7)) == [(11, 2), (21, 4), (41, 7)]
    assert code().sizes((1, 9, 9)) == [(1, 3, 3), (1, 5, 5), (1, 9, 9)]


def test_a_flat_patch_in_a_volume():
    decoder = PatchDecoder(code(code_units=18), (1, 9, 9))
    assert decoder(torch.rand(2, 18)).shape == (2, 81)


@pytest.mark.parametrize(
    ("units", "nearest"), [(250, "216 or 252"), (10, "36"), (253, "252 or 288")]
)
def test_units_that_do_not_fit_get_the_nearest(units, nearest):
    with pytest.raises(ConfigError) as error:
        PatchDecoder(CodeSettings(code_units=units, decoder_fmaps=(4, 4, 4)), (41, 41))
    assert str(error.value) == (
        "[method.code] code_units must be a multiple of 36, because 3 steps (decoder_fmaps) to"
        f" patch_shape [41, 41] begin at [6, 6] voxels; got {units}. The nearest that fit:"
        f" {nearest}"
    )


@pytest.mark.parametrize("patch_shape", [(9, 13), (5, 9, 7)])
@torch.no_grad()
def test_resizing_is_nearest_neighbours_and_a_convolution(patch_shape):
    """Step by step, with torch's own layers."""
    settings = code(code_units=2 * math.prod(code().sizes(patch_shape)[0]))
    decoder = PatchDecoder(settings, patch_shape)
    codes = torch.rand(3, settings.code_units)
    convolve = conv2d if len(patch_shape) == 2 else conv3d
    features = decoder.read(4 * codes.reshape(-1, *decoder.code_shape) - 2)
    for step, size in zip(decoder.steps, settings.sizes(patch_shape)[1:], strict=True):
        enlarged = interpolate(features, scale_factor=2.0, mode="nearest")
        layer = step.convolution
        convolved = convolve(enlarged, layer.weight, layer.bias, padding=1).relu()
        features = convolved[(..., *(slice(0, n) for n in size))]
    expected = decoder.write(features).flatten(1)
    torch.testing.assert_close(decoder(codes), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["resize_conv", "trans_conv"])
def test_every_weight_learns_and_every_unit_matters(upsampling):
    torch.manual_seed(0)
    decoder = PatchDecoder(code(upsampling=upsampling, code_units=48), (9, 13))
    codes = torch.rand(64, 48, requires_grad=True)
    decoder(codes).square().sum().backward()
    assert all(weight.grad is not None for weight in decoder.parameters())
    assert (codes.grad.abs().sum(dim=0) > 0).all()


def test_sixteen_bits():
    decoder = PatchDecoder(code(), (9, 7))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(decoder(torch.rand(2, 24))).all()


def test_no_codes_no_patches():
    assert PatchDecoder(code(), (9, 7))(torch.zeros(0, 24)).shape == (0, 63)


def test_kind_is_the_side_of_the_convolution_that_reads_the_code():
    sides = {
        kind: PatchDecoder(code(kind=kind), (9, 7)).read[0].kernel_size
        for kind in ("conv", "conv1x1")
    }
    assert sides == {"conv": (3, 3), "conv1x1": (1, 1)}


def test_description_has_what_shapes_weights():
    described = describe_decoder(code(), (9, 7))
    assert described == {
        "method.patch_shape": [9, 7],
        "method.code.code_units": 24,
        "method.code.decoder_fmaps": [4, 3],
        "method.code.upsampling": "resize_conv",
        "method.code.kind": "conv1x1",
    }
    assert described == describe_decoder(code(batch_size=3, patches_per_crop=5), (9, 7))


@pytest.mark.parametrize("patch_shape", [(9, 7), (5, 5, 5)])
def test_autoencoder_learns_to_copy(patch_shape):
    """Half spaces through the centre: half of the error is gone after a few steps."""
    torch.manual_seed(0)
    grid = torch.stack(
        torch.meshgrid(*(torch.arange(n) - n // 2 for n in patch_shape), indexing="ij")
    ).float()
    normals = torch.randn(64, len(patch_shape))
    patches = (torch.einsum("nd,d...->n...", normals, grid) >= 0).float()
    settings = CodeSettings(
        code_units=8 * math.prod(code().sizes(patch_shape)[0]), decoder_fmaps=(8, 8)
    )
    network = PatchAutoencoder(settings, patch_shape)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        logits = network(patches[:, None])["patches"]
        loss = binary_cross_entropy_with_logits(logits, patches.flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * math.log(2)


def test_weights_of_the_decoder_are_found_in_those_of_a_network():
    network = PatchAutoencoder(code(), (9, 7))
    found = decoder_weights(network.state_dict())
    assert found.keys() == network.decoder.state_dict().keys()
