import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from instaseg.blockwise.work import BlockWork
from instaseg.errors import ConfigError
from instaseg.io.arrays import write_array
from instaseg.methods.deep_watershed.config import LabelSettings


def predict(shape, seed, path, method):
    """Write a smooth random prediction; return its heads."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 1.2)
    noise = (noise - noise.min()) / np.ptp(noise)
    edges = np.asarray(method.settings.edges)
    depth = 1 / (1 + np.exp(-(noise[None] * 12 - 3 - edges.reshape(-1, *(1,) * len(shape)))))
    heads = {
        "foreground": (1 / (1 + np.exp(-(noise[None] - 0.35) * 20))).astype(np.float16),
        # few values, so that there are plateaus
        "depth": np.round(depth, 1).astype(np.float16),
        "directions": rng.normal(size=(len(shape), *shape)).astype(np.float16),
    }
    for head in method.heads:
        write_array(path, head.key, heads[head.name])
    return heads


class Memory(dict):
    """A store without a disk."""

    def has(self, step, block):
        return (step, block) in self

    def write(self, step, block, arrays):
        self[step, block] = dict(arrays)

    def read(self, step, block, names=None):
        arrays = self[step, block]
        return {name: arrays[name] for name in (names or arrays)}


def run_here(function, tasks, step):
    assert step
    return [function(task) for task in tasks]


def in_blocks(method, path, block_shape, parameters):
    labels = method.label_blocks(path, parameters, BlockWork(block_shape, Memory(), run_here))
    whole = np.zeros(labels.shape, np.int32)
    for place, values in labels.parts():
        whole[place] = values
    return whole


@pytest.mark.parametrize("values", [{}, {"grow": "none"}, {"min_size": 6, "neighbours": "all"}])
@given(
    st.integers(0, 10**6),
    st.sampled_from([((23, 31), (9, 11)), ((9, 14, 13), (5, 6, 7))]),
)
@settings(max_examples=4)
def test_labels_are_those_of_the_whole(tmp_path_factory, make_method, values, seed, shapes):
    shape, block_shape = shapes
    folder = tmp_path_factory.mktemp("blocks")
    method, parameters = make_method(ndim=len(shape)), LabelSettings(cut=3.5, **values)
    heads = predict(shape, seed, folder / "p.zarr", method)
    (expected,) = method.label(heads, [parameters])
    assert expected.any()
    found = in_blocks(method, folder / "p.zarr", block_shape, parameters)
    assert np.array_equal(found, expected)


def test_settings_that_need_the_whole_are_refused(tmp_path, method):
    predict((12, 12), 0, tmp_path / "p.zarr", method)
    parameters = LabelSettings(grow="nearest", fill_holes=4)
    with pytest.raises(ConfigError, match=r"found grow = nearest, fill_holes = 4; leave"):
        in_blocks(method, tmp_path / "p.zarr", (8, 8), parameters)


def test_large_predictions_are_cut_into_blocks_that_fit(method, make_method):
    assert method.block_shape((512, 512)) is None
    block = make_method(ndim=3).block_shape((2000, 2048, 2048))
    assert np.prod(block) <= 2**25
    assert min(block) > 100
