"""Patch codes to patches, in batches; memory is bounded by the batch and the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from instaseg.errors import CheckpointError, ConfigError
from instaseg.io.quantise import dequantise
from instaseg.methods.base import Coding
from instaseg.methods.build import MethodSpec
from instaseg.models.decoder import decoder_weights
from instaseg.training.checkpoints import check_architecture, load_weights, read_checkpoint

_ROWS = 64
"""Codes of a batch come in multiples of it, so that none is computed as the rest of a vector: those
of odd batches differ in the last bit by their place (seen with 3, not from 16 on)."""

_IN_CACHE = 256
"""Codes whose maps stay in the caches of a CPU: larger batches take up to 1.5 times as long."""

_loaded: dict[tuple[Path, int, int, str], nn.Module] = {}


@dataclass(frozen=True)
class CheckpointDecoder:
    """The decoder of a checkpoint as a function that can be sent to other processes.

    Parameters
    ----------
    checkpoint : Path
        File of a training with codes.
    spec : MethodSpec
        The method.
    device : {"cpu", "cuda"}
        Where it runs.
    """

    checkpoint: Path
    spec: MethodSpec
    device: Literal["cpu", "cuda"] = "cpu"

    def __call__(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Return probabilities ``(K, n)`` for codes ``(units, n)`` as they are stored."""
        coding = self.spec.build().coding
        decoder = load_decoder(self.checkpoint, self.spec)
        device = torch.device(self.device)
        assert coding is not None  # else load_decoder has said so
        return decode_codes(
            decoder.to(device), codes, batch_size=coding.settings.batch_size, device=device
        )


def decode_codes(
    decoder: nn.Module, codes: NDArray[Any], *, batch_size: int, device: torch.device
) -> NDArray[np.float32]:
    """Return the patches of codes.

    Parameters
    ----------
    decoder : Module
        Probabilities ``(n, units)`` in, logits ``(n, K)`` out; on `device`.
    codes : (units, n) ndarray
        As they are stored: float16, or uint8 for ``255 p``.
    batch_size : int
        Codes decoded at a time, rounded up to a multiple of `_ROWS`; more need more memory. On the
        CPU at most `_IN_CACHE`.
    device : torch.device
        Where the decoder is.

    Returns
    -------
    (K, n) ndarray of float32
        Probabilities, voxels of a patch in raster order.

    Notes
    -----
    Every batch has the same size, a multiple of `_ROWS`, filled up with zeros: how a library
    computes a batch, and so the last bit of a result, may depend on its size and on the place in
    it, but blocks must not differ from the whole.
    """
    decoder.eval()
    units, number = codes.shape
    patches: NDArray[np.float32] | None = None
    if device.type == "cpu":
        batch_size = min(batch_size, _IN_CACHE)
    batch_size = -(-batch_size // _ROWS) * _ROWS
    batch = np.zeros((batch_size, units), np.float32)
    with torch.inference_mode():
        for begin in range(0, max(number, 1), batch_size):
            part = dequantise(np.ascontiguousarray(codes[:, begin : begin + batch_size].T))
            batch[: len(part)] = part
            decoded = decoder(torch.from_numpy(batch).to(device)).float().sigmoid().cpu().numpy()
            if patches is None:
                patches = np.empty((decoded.shape[1], number), dtype=np.float32)
            patches[:, begin : begin + len(part)] = decoded[: len(part)].T
    assert patches is not None
    return patches


def load_decoder(checkpoint: Path, spec: MethodSpec) -> nn.Module:
    """Return the decoder in a checkpoint, on the CPU, with averaged weights.

    Arguments can be sent to other processes; each process reads a file once.

    Parameters
    ----------
    checkpoint : Path
        File of a training with codes, or of an autoencoder.
    spec : MethodSpec
        The method.

    Raises
    ------
    ConfigError
        If the method has no codes.
    CheckpointError
        If the file is damaged, or has no decoder or another one.
    """
    coding = spec.build().coding
    if coding is None:
        raise ConfigError(
            '[method] prediction: expected "codes", found a method without; there is nothing to'
            " decode"
        )
    try:
        state = checkpoint.stat()
    except OSError as error:
        raise CheckpointError(f"{checkpoint}: cannot read the checkpoint: {error}") from error
    key = (checkpoint, state.st_size, state.st_mtime_ns, repr(sorted(coding.architecture.items())))
    if key not in _loaded:
        _loaded.clear()  # one is in use at a time
        _loaded[key] = _channels_last(decoder_of(checkpoint, coding))
    return _loaded[key]


def _channels_last(decoder: nn.Module) -> nn.Module:
    """Return the decoder with weights in the layout that computes small maps fastest.

    On the CPU it takes about half the time.
    """
    flat = all(weight.dim() < 5 for weight in decoder.parameters())
    layout = torch.channels_last if flat else torch.channels_last_3d
    # PyTorch's annotations leave this argument out
    laid_out: nn.Module = decoder.to(memory_format=layout)  # type: ignore[call-overload]
    return laid_out


def decoder_of(checkpoint: Path, coding: Coding) -> nn.Module:
    """Return the decoder in a checkpoint; see :func:`load_decoder`."""
    state = read_checkpoint(checkpoint)
    found = {
        name: value for name, value in state.architecture.items() if name in coding.architecture
    }
    if not found:
        raise CheckpointError(
            f"{checkpoint}: expected a checkpoint with a decoder of patch codes, found one without;"
            ' choose one of train_autoencoder, or of a training with prediction = "codes"'
        )
    check_architecture(found, coding.architecture, str(checkpoint))
    decoder = coding.decoder()
    load_weights(decoder, decoder_weights(state.averaged_weights), str(checkpoint))
    return decoder.eval()
