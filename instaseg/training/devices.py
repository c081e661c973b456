"""Where and with which numbers a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from instaseg.errors import ConfigError

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
MemoryFormatName = Literal["auto", "channels_first", "channels_last"]

_CPU_INFO = Path("/proc/cpuinfo")
_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """Numbers of the network's layers, and the order of values in memory.

    Parameters
    ----------
    dtype : torch.dtype
        Type that convolutions compute with; weights stay float32.
    memory_format : torch.memory_format
        `torch.channels_last` (also for volumes) or `torch.contiguous_format`.
    """

    dtype: torch.dtype
    memory_format: torch.memory_format

    @property
    def needs_scaling(self) -> bool:
        """Whether gradients would vanish without a scaled loss, as with float16."""
        return self.dtype == torch.float16

    @contextmanager
    def autocast(self, device: torch.device) -> Iterator[None]:
        """Compute with this precision inside the block."""
        mixed = self.dtype != torch.float32
        with torch.autocast(device.type, self.dtype if mixed else torch.bfloat16, enabled=mixed):
            yield

    def arrange(self, image: Tensor) -> Tensor:
        """Return an image ``(B, C, [z,] y, x)`` with this order of values in memory."""
        return image.contiguous(memory_format=self.format_for(image.ndim - 2))

    def format_for(self, ndim: int) -> torch.memory_format:
        """Return the memory format for images of `ndim` spatial axes."""
        if self.memory_format is torch.channels_last and ndim == 3:
            return torch.channels_last_3d
        return self.memory_format


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device to run on; `auto` is a CUDA device if there is one.

    Raises
    ------
    ConfigError
        If a CUDA device is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            'general.device: expected a CUDA device because it is "cuda"; torch'
            f' {torch.__version__} finds none. Set it to "auto" or "cpu", or install a build of'
            " torch and a driver with CUDA"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def choose_precision(
    precision: PrecisionName, device: torch.device, *, memory_format: MemoryFormatName = "auto"
) -> Precision:
    """Return the numbers to compute with.

    `auto` takes bfloat16 on processors with instructions for it and on CUDA devices, float16 on
    older CUDA devices, else float32; and channels last with 16 bits, where convolutions gain most.

    Raises
    ------
    ConfigError
        If float16 is asked for on a CPU, whose training with it is neither fast nor exact.
    """
    if precision == "float16" and device.type == "cpu":
        raise ConfigError(
            "training.precision: expected float32, bfloat16 or auto on a CPU; found float16. Use"
            ' "auto"'
        )
    dtype = _fastest_dtype(device) if precision == "auto" else _DTYPES[precision]
    if memory_format == "auto":
        memory_format = "channels_first" if dtype == torch.float32 else "channels_last"
    formats = {
        "channels_first": torch.contiguous_format,
        "channels_last": torch.channels_last,
    }
    return Precision(dtype, formats[memory_format])


def _fastest_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if cpu_has_fast_bfloat16() else torch.float32


def cpu_has_fast_bfloat16(cpu_info: Path = _CPU_INFO) -> bool:
    """Return whether the processor multiplies bfloat16; False where the system does not tell."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in _FAST_BFLOAT16)
