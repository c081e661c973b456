"""Numbers on disk and back."""

import numpy as np
import pytest

from instaseg.io.quantise import dequantise, quantise, stored_dtype


def test_bytes_are_rounded_not_cut():
    # 0.003 * 255 = 0.765, 0.501 * 255 = 127.8
    assert quantise(np.float32([0, 0.003, 0.501, 1]), np.dtype("uint8")).tolist() == [
        0,
        1,
        128,
        255,
    ]


def test_there_and_back_is_off_by_half_a_step_at_most():
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    for dtype, step in (("uint8", 1 / 255), ("float16", 1 / 1024)):
        back = dequantise(quantise(values, np.dtype(dtype)))
        assert back.dtype == np.float32
        assert np.abs(back - values).max() <= step / 2 + 1e-6


@pytest.mark.parametrize(
    ("activation", "wanted", "stored"),
    [
        ("sigmoid", "uint8", "uint8"),
        ("softmax", "float16", "float16"),
        ("none", "uint8", "float16"),
    ],
)
def test_bytes_hold_probabilities_only(activation, wanted, stored):
    assert stored_dtype(activation, wanted) == stored
