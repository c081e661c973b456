"""The two nearest instances, against one distance transform for each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from instaseg.methods.channels.nearest_two import nearest_two


def plain(labels, spacing, most=np.inf):
    """Return the two least of one distance transform per label."""
    each = [
        ndimage.distance_transform_edt(labels != label, sampling=spacing)
        for label in np.unique(labels[labels > 0])
    ]
    each += [np.full(labels.shape, np.inf)] * 2
    found = np.sort(np.stack(each), axis=0)[:2]
    return np.where(found <= most, found, np.inf)


@given(labels=arrays.arrays(np.int32, (6, 7), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3])))
@settings(max_examples=60)
def test_images(labels):
    found = nearest_two(labels, (2.0, 1.5))
    np.testing.assert_allclose([found.first, found.second], plain(labels, (2.0, 1.5)), rtol=1e-6)


@given(labels=arrays.arrays(np.int32, (4, 5, 6), elements=st.sampled_from([0] * 8 + [1, 2, 3])))
@settings(max_examples=25)
def test_volumes(labels):
    found = nearest_two(labels, (4.0, 1.0, 1.0))
    np.testing.assert_allclose(
        [found.first, found.second], plain(labels, (4.0, 1.0, 1.0)), rtol=1e-6
    )


@pytest.mark.parametrize("most", [1.0, 2.5, 4.0])
def test_within_a_limit(most):
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((12, 12)) < 0.1, rng.integers(1, 5, (12, 12)), 0).astype(np.int32)
    found = nearest_two(labels, (1.0, 1.0), most=most)
    np.testing.assert_allclose(
        [found.first, found.second], plain(labels, (1.0, 1.0), most), rtol=1e-6
    )
