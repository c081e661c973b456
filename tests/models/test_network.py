"""Networks with heads, their description and summary."""

import pytest
import torch

from instaseg.errors import ConfigError
from instaseg.methods.base import Head
from instaseg.models.config import ModelSettings
from instaseg.models.network import activate, build_network, describe_architecture
from instaseg.models.summary import count_parameters, estimate_memory, output_shapes, summary

AFFS = Head("affs", 9, "sigmoid", "volumes/pred_affs")
COUNT = Head("count", 3, "softmax", "volumes/pred_count")
TINY = ModelSettings(
    num_fmaps=2,
    downsample_factors=((2, 2),),
    num_repetitions=1,
    train_input_shape=(12, 16),
    test_input_shape=(12, 16),
)


def test_one_output_per_head():
    network = build_network(TINY, in_channels=3, ndim=2, heads=[AFFS, COUNT])
    outputs = network(torch.zeros(2, 3, 12, 16))
    # One pass of 3x3 loses 1 a side: 1, then 1 + 2*1 + 1 = 4.
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {
        "affs": (2, 9, 4, 8),
        "count": (2, 3, 4, 8),
    }


def test_volume_with_batch_normalisation():
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((1, 2, 2),),
        kernel_size=(1, 3, 3),
        padding="same",
        normalization="batch",
        upsampling="trans_conv",
        train_input_shape=(3, 8, 8),
        test_input_shape=(3, 8, 8),
    )
    network = build_network(model, in_channels=1, ndim=3, heads=[AFFS])
    assert network(torch.zeros(1, 1, 3, 8, 8))["affs"].shape == (1, 9, 3, 8, 8)


def test_wrong_number_of_axes():
    with pytest.raises(
        ConfigError, match=r"expected 3 axes because data.ndim = 3; found \[12, 16\]"
    ):
        build_network(TINY, in_channels=1, ndim=3, heads=[AFFS])


def test_input_that_does_not_fit():
    network = build_network(TINY, in_channels=1, ndim=2, heads=[AFFS])
    with pytest.raises(ConfigError, match=r"The nearest that fit: \[12, 16\] or \[14, 16\]"):
        network(torch.zeros(1, 1, 13, 16))


def test_patches_at_sites_are_those_of_the_whole_output():
    torch.manual_seed(0)
    network = build_network(TINY, in_channels=1, ndim=2, heads=[AFFS, COUNT])
    image, sites = torch.rand(2, 1, 12, 16), torch.tensor([0, 9, 31, 32, 63])
    whole, sampled = network(image), network(image, sites)
    assert set(sampled) == {"patches", "count"}
    # 4 x 8 voxels a crop: 9 is row 1, column 1 of the first; 32 is the second's first.
    assert torch.allclose(sampled["patches"][1], whole["affs"][0, :, 1, 1], atol=1e-6)
    assert torch.allclose(sampled["patches"][3], whole["affs"][1, :, 0, 0], atol=1e-6)
    rows = whole["affs"].movedim(1, -1).reshape(-1, 9)[sites]
    assert torch.allclose(sampled["patches"], rows, atol=1e-6)
    assert torch.equal(sampled["count"], whole["count"])


def test_decoder_gets_probabilities_of_the_first_head():
    decoder = torch.nn.Linear(9, 25)
    network = build_network(TINY, in_channels=1, ndim=2, heads=[AFFS], decoder=decoder)
    image, sites = torch.rand(1, 1, 12, 16), torch.tensor([3, 8])
    whole = network(image)["affs"].sigmoid()
    rows = whole.movedim(1, -1).reshape(-1, 9)[sites]
    assert torch.allclose(network(image, sites)["patches"], decoder(rows), atol=1e-6)
    assert {name.split(".")[0] for name in network.state_dict()} == {"trunk", "heads", "decoder"}


def test_activations():
    logits = torch.tensor([0.0, 0.0, 100.0]).reshape(1, 3, 1, 1).bfloat16()
    assert activate(AFFS, logits).flatten().tolist() == [0.5, 0.5, 1.0]
    assert activate(COUNT, logits).flatten().tolist() == pytest.approx([0, 0, 1])
    raw = activate(Head("energy", 3, "none", "k"), logits)
    assert raw.dtype == torch.float32
    assert raw.flatten().tolist() == [0.0, 0.0, 100.0]


def test_architecture_leaves_out_what_does_not_shape_weights():
    large = TINY.model_copy(update={"test_input_shape": (20, 20)})
    described = describe_architecture(TINY, in_channels=1, heads=[AFFS])
    assert described == describe_architecture(large, in_channels=1, heads=[AFFS])
    assert described["model.num_fmaps"] == 2
    assert described["head affs"] == "9 channels, sigmoid"
    other = describe_architecture(TINY, in_channels=1, heads=[AFFS], decoder={"units": 9})
    assert other == {**described, "units": 9}


def test_parameters_and_shapes_worked_out_by_hand():
    """Convolutions with biases: 3x3 1 to 2, 2 to 4, 1x1 4 to 2, 3x3 4 to 2, the head's 2 to 9."""
    network = build_network(TINY, in_channels=1, ndim=2, heads=[AFFS])
    assert count_parameters(network) == 20 + 76 + 10 + 74 + 27
    assert output_shapes(network, (1, 12, 16), batch_size=2) == {"affs": (2, 9, 4, 8)}


def test_memory_worked_out_by_hand():
    """Values: image 192; 2 maps 10x14, pooled 5x7; 4 maps 3x5; 2 maps 3x5, 6x10; 4 maps 6x10;
    2 maps 4x8; 9 channels 4x8."""
    network = build_network(TINY, in_channels=1, ndim=2, heads=[AFFS])
    values = 192 + 280 + 70 + 60 + 30 + 120 + 240 + 64 + 288
    memory = estimate_memory(network, (1, 12, 16))
    assert memory.training == 4 * (values + 4 * 207)
    # The first convolution is the largest: its input and output; one skip connection is held.
    assert memory.prediction == 4 * (207 + 192 + 280 + 280)


def test_summary_names_shapes_and_layers():
    network = build_network(TINY, in_channels=1, ndim=2, heads=[AFFS])
    text = summary(network, {"training": (1, 12, 16), "prediction": (1, 14, 16)}, batch_size=4)
    assert "parameters: 207" in text
    assert "training: input 4 x 1 x 12 x 16" in text
    assert "output affs: 4 x 9 x 4 x 8" in text
    assert "prediction: input 1 x 1 x 14 x 16" in text
    assert "heads.affs" in text
