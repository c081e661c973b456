"""Hidden boxes and missing sections."""

import numpy as np
import pytest

from instaseg.data.augment_parts import with_hidden_boxes, with_missing_sections
from instaseg.data.config import CutoutSettings, MissingSectionsSettings


def rng(seed=0):
    return np.random.default_rng(seed)


def some_image(shape=(2, 40, 40)):
    return rng(1).normal(3, 0.3, shape).astype(np.float32)


@pytest.mark.parametrize("fill", ["mean", "zero", "noise", "blur"])
@pytest.mark.parametrize("shape", [(2, 40, 40), (1, 8, 20, 20)])
def test_boxes_are_hidden_in_all_channels(fill, shape):
    image = some_image(shape)
    before = image.copy()
    settings = CutoutSettings(count=(1, 1), size=(0.25, 0.25), fill=fill)
    found = with_hidden_boxes(image, rng(3), settings)
    np.testing.assert_array_equal(image, before)
    changed = np.argwhere((found != image).all(axis=0))
    extent = changed.max(axis=0) - changed.min(axis=0) + 1
    assert extent.tolist() == [round(n / 4) for n in shape[1:]]
    assert len(changed) == np.prod(extent)
    assert found.dtype == np.float32
    if fill in ("mean", "zero"):
        inside = found[(slice(None), *changed.T)]
        means = image.reshape(len(image), -1).mean(axis=1, keepdims=True)
        np.testing.assert_allclose(inside, np.broadcast_to(means * (fill == "mean"), inside.shape))


def test_boxes_lie_inside_and_have_at_least_a_voxel():
    settings = CutoutSettings(count=(4, 4), size=(0, 1), fill="zero")
    for seed in range(20):
        assert (with_hidden_boxes(some_image((1, 3, 50)), rng(seed), settings) == 0).any()


def sections(fill, depth=6, count=(2, 2)):
    """Return, for 40 seeds, which section of a volume each section shows (-1 is black)."""
    image = np.broadcast_to(np.arange(1.0, depth + 1)[:, None, None], (1, depth, 2, 2))
    settings = MissingSectionsSettings(count=count, fill=fill)
    image = image.astype(np.float32)
    return [
        tuple(with_missing_sections(image, rng(seed), settings)[0, :, 0, 0].astype(int) - 1)
        for seed in range(40)
    ]


def test_missing_sections_are_black():
    assert set(sections("zero")) == {
        tuple(-1 if z in (first, first + 1) else z for z in range(6)) for first in range(5)
    }


def test_missing_sections_repeat_the_one_before():
    assert set(sections("previous")) == {
        (2, 2, 2, 3, 4, 5),
        (0, 0, 0, 3, 4, 5),
        (0, 1, 1, 1, 4, 5),
        (0, 1, 2, 2, 2, 5),
        (0, 1, 2, 3, 3, 3),
    }


def test_one_section_is_always_left():
    assert {sum(z >= 0 for z in seen) for seen in sections("zero", 3, (5, 9))} == {1}
    assert sections("zero", 1)[0] == (0,)
