"""Device and precision, whatever the machine has."""

import pytest
import torch

from instaseg.errors import ConfigError
from instaseg.training import devices
from instaseg.training.devices import (
    choose_device,
    choose_precision,
    cpu_has_fast_bfloat16,
    freed_memory_kept,
)

CPU = torch.device("cpu")


def test_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match=r'expected a CUDA device .* Set it to "auto" or "cpu"'):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == choose_device("cuda").type == "cuda"
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 ospke", True),
        ("flags : amx_bf16 amx_tile", True),
        ("flags : avx2 avx512f", False),
        ("Features : neon", False),
        ("", False),
    ],
)
def test_processor(tmp_path, flags, fast):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert cpu_has_fast_bfloat16(tmp_path / "cpuinfo") == fast
    assert not cpu_has_fast_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize("fast", [True, False])
def test_precision_on_the_processor(monkeypatch, fast):
    monkeypatch.setattr(devices, "cpu_has_fast_bfloat16", lambda: fast)
    found = choose_precision("auto", CPU)
    assert found.dtype == (torch.bfloat16 if fast else torch.float32)
    assert found.format_for(2) == (torch.channels_last if fast else torch.contiguous_format)
    assert found.format_for(3) == (torch.channels_last_3d if fast else torch.contiguous_format)
    assert choose_precision("float32", CPU).dtype == torch.float32
    assert not found.needs_scaling


def test_half_precision_needs_a_gpu():
    with pytest.raises(ConfigError, match="expected float32, bfloat16 or auto on a CPU"):
        choose_precision("float16", CPU)
    assert choose_precision("float16", torch.device("cuda")).needs_scaling


def test_autocast_and_order_in_memory():
    found = choose_precision("bfloat16", CPU, memory_format="channels_last")
    image = found.arrange(torch.zeros(1, 2, 4, 4))
    assert image.is_contiguous(memory_format=torch.channels_last)
    with found.autocast(CPU):
        assert torch.nn.Conv2d(2, 1, 1)(image).dtype == torch.bfloat16
    with choose_precision("float32", CPU).autocast(CPU):
        assert torch.nn.Conv2d(2, 1, 1)(image).dtype == torch.float32


class Malloc:
    """Stands for the C library and remembers what is asked of it."""

    def __init__(self):
        self.asked = []

    def mallopt(self, option, value):
        self.asked.append((option, value))
        return 1

    def malloc_trim(self, pad):
        self.asked.append(("trim", pad))
        return 1


def test_freed_memory_is_kept_inside_the_block_only(monkeypatch):
    library = Malloc()
    monkeypatch.setattr(devices.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(devices.ctypes, "CDLL", {None: library}.get)
    with freed_memory_kept():
        assert library.asked == [(-3, 2**30), (-1, 2**31 - 1)]
    assert library.asked[2:] == [(-3, 32 * 2**20), (-1, 64 * 2**20), ("trim", 0)]


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(devices.ctypes, "CDLL", None)
    with freed_memory_kept():
        pass
