"""Where and with which numbers a network runs."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from instaseg.errors import ConfigError
from instaseg.training.ranks import ALONE, Ranks

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
MemoryFormatName = Literal["auto", "channels_first", "channels_last"]

_CPU_INFO = Path("/proc/cpuinfo")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
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


def choose_device(name: Literal["auto", "cpu", "cuda"], ranks: Ranks = ALONE) -> torch.device:
    """Return the device to run on; `auto` is a CUDA device if there is one.

    Processes that train together get one CUDA device each.

    Raises
    ------
    ConfigError
        If a CUDA device is asked for and there is none, or there are fewer than processes.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            'general.device: expected a CUDA device because it is "cuda"; torch'
            f' {torch.__version__} finds none. Set it to "auto" or "cpu", or install a build of'
            " torch and a driver with CUDA"
        )
    if not available or name == "cpu":
        return torch.device("cpu")
    if ranks.alone:
        return torch.device("cuda")
    there = torch.cuda.device_count()
    if ranks.local >= there:
        raise ConfigError(
            f"torchrun: expected at most {there} processes on this machine, one for each CUDA"
            f" device; found one numbered {ranks.local}; use --nproc-per-node={there}"
        )
    torch.cuda.set_device(ranks.local)
    return torch.device("cuda", ranks.local)


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


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the process keep the memory it frees for its next arrays, inside the block.

    The C library gives large freed arrays back to the system, and a network's layers ask for the
    same sizes again and again: with a 3-D U-Net on a CPU, a third of the time goes into mapping
    pages anew. Only with the GNU C library; elsewhere nothing happens.
    """
    set_option, trim = _malloc_functions()
    if set_option is None or trim is None:
        yield
        return
    set_option(_MMAP_THRESHOLD, 1 << 30)
    set_option(_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        # The largest thresholds that the library would come to by itself.
        set_option(_MMAP_THRESHOLD, 32 << 20)
        set_option(_TRIM_THRESHOLD, 64 << 20)
        trim(0)


def _malloc_functions() -> tuple[Callable[[int, int], int] | None, Callable[[int], int] | None]:
    """Return `mallopt` and `malloc_trim` of the GNU C library, None elsewhere."""
    if platform.libc_ver()[0] != "glibc":
        return None, None
    library = ctypes.CDLL(None)
    return library.mallopt, library.malloc_trim


def cpu_has_fast_bfloat16(cpu_info: Path = _CPU_INFO) -> bool:
    """Return whether the processor multiplies bfloat16; False where the system does not tell."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in _FAST_BFLOAT16)
