import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import skeletonize

from instaseg.regions.thinning import thin_volume


def thinned(volume):
    result = np.zeros(volume.shape, bool)
    voxels = np.argwhere(volume)
    result[tuple(voxels[thin_volume(voxels)].T)] = True
    return result


@settings(max_examples=80)
@given(
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=12),
    st.integers(0, 1000),
    st.sampled_from([0.1, 0.3, 0.6, 0.9]),
)
def test_equal_to_the_plain_version(shape, seed, density):
    volume = np.random.default_rng(seed).random(shape) < density
    assert (thinned(volume) == skeletonize(volume)).all()


def test_a_branching_object_larger_than_a_tile():
    volume = np.zeros((30, 40, 50), bool)
    volume[10:15, 10:15, 3:47] = True
    volume[10:15, 10:38, 20:25] = True
    volume[2:28, 30:34, 21:25] = True
    line = thinned(volume)
    assert (line == skeletonize(volume)).all()
    assert 60 < line.sum() < 130


def test_nothing_and_almost_nothing():
    assert thin_volume(np.zeros((0, 3), np.int64)).tolist() == []
    assert thin_volume(np.array([[5, 5, 5]])).tolist() == [True]
    assert not thinned(np.ones((2, 2, 2), bool)).any()
