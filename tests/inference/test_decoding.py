"""Codes to patches: batches change nothing, and decoders come from checkpoints."""

import pickle

import numpy as np
import pytest
import torch

from instaseg.data.config import DataSettings
from instaseg.errors import CheckpointError, ConfigError
from instaseg.inference.decoding import decode_codes, load_decoder
from instaseg.methods.build import MethodSpec
from instaseg.methods.patches.config import PatchesSettings
from instaseg.models.config import ModelSettings
from instaseg.models.decoder import PatchAutoencoder
from instaseg.training.checkpoints import Checkpoint, save_checkpoint

CPU = torch.device("cpu")


def spec(**changes):
    code = {"code_units": 12, "decoder_fmaps": (4,), **changes.pop("code", {})}
    settings = {"patch_shape": (5, 3), "prediction": "codes", "code": code, **changes}
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((2, 2),),
        padding="same",
        train_input_shape=(8, 8),
        test_input_shape=(8, 8),
    )
    return MethodSpec(PatchesSettings(**settings), model, DataSettings(ndim=2))


def saved(folder, method_spec, *, architecture=None):
    """Return an autoencoder's checkpoint, whose averaged weights differ from the others."""
    coding = method_spec.build().coding
    network = PatchAutoencoder(coding.settings, coding.patch_shape)
    weights = network.state_dict()
    path = save_checkpoint(
        folder,
        Checkpoint(
            iteration=7,
            seconds=1.0,
            weights={name: weight + 1 for name, weight in weights.items()},
            averaged_weights=weights,
            optimizer={},
            scaler={},
            config="",
            statistics={},
            architecture=dict(coding.architecture) if architecture is None else architecture,
        ),
    )
    return path, network.decoder


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_batches_of_codes(batch_size, dtype):
    torch.manual_seed(0)
    decoder = spec().build().coding.decoder()
    numbers = np.random.default_rng(0).random((12, 7), dtype=np.float32)
    stored = (255 * numbers).round().astype("uint8") if dtype == "uint8" else numbers.astype(dtype)
    found = decode_codes(decoder, stored, batch_size=batch_size, device=CPU)
    exact = stored.astype(np.float32) / (255 if dtype == "uint8" else 1)
    with torch.no_grad():
        expected = decoder(torch.from_numpy(exact.T.copy())).sigmoid().numpy().T
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_code_means_the_same_whatever_is_decoded_with_it(batch_size):
    """Bit for bit: blocks decode other codes together than the whole does."""
    torch.manual_seed(0)
    decoder = spec().build().coding.decoder()
    rng = np.random.default_rng(0)
    stored = rng.random((12, 150)).astype(np.float16)
    whole = decode_codes(decoder, stored, batch_size=batch_size, device=CPU)
    for size in (1, 2, 61, 149):
        some = rng.permutation(150)[:size]
        found = decode_codes(decoder, stored[:, some], batch_size=batch_size, device=CPU)
        np.testing.assert_array_equal(found, whole[:, some])


def test_no_codes():
    decoder = spec().build().coding.decoder()
    found = decode_codes(decoder, np.zeros((12, 0), np.float16), batch_size=4, device=CPU)
    assert found.shape == (15, 0)


def test_decoder_of_a_checkpoint_has_averaged_weights_and_is_read_once(tmp_path):
    path, expected = saved(tmp_path, spec())
    path, sent = pickle.loads(pickle.dumps((path, spec())))
    found = load_decoder(path, sent)
    for name, weight in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight)
    assert load_decoder(path, spec()) is found
    assert not found.training


def test_another_decoder_is_refused(tmp_path):
    path, _ = saved(tmp_path, spec())
    with pytest.raises(CheckpointError) as error:
        load_decoder(path, spec(code={"decoder_fmaps": (5,)}))
    assert "method.code.decoder_fmaps: expected [5], found [4]" in str(error.value)


def test_a_checkpoint_without_decoder_is_refused(tmp_path):
    path, _ = saved(tmp_path, spec(), architecture={"ndim": 2})
    with pytest.raises(CheckpointError, match="expected a checkpoint with a decoder of patch co"):
        load_decoder(path, spec())


def test_what_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        load_decoder(tmp_path / "none.pt", spec())
    with pytest.raises(ConfigError, match='expected "codes", found a method without'):
        load_decoder(tmp_path / "none.pt", spec(prediction="patches"))
