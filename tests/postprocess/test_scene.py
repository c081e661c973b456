import numpy as np
import pytest

from instaseg.errors import DataError
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import Scene, without_units


def test_the_region_of_interest_is_cut_out_of_labels_and_channels():
    labels = np.array([[1, 1, 2, 2], [1, 1, 3, 3]])
    options = PostprocessingSettings(roi_key="roi", remove_small_comps=1)
    scene = Scene((1.0, 1.0), roi=np.array([[1, 1, 0, 0], [7, 1, 1, 1]]))
    assert postprocess(labels, options, scene).tolist() == [[1, 1, 0, 0], [1, 1, 2, 2]]
    channels = np.stack([labels == 1, labels == 2, labels == 3])
    cut = postprocess(channels, options, scene)
    assert cut.max(axis=(1, 2)).tolist() == [1, 0, 2]


def test_growth_ends_at_the_region_of_interest():
    labels = np.array([[0, 0, 5, 0, 0, 0]])
    options = PostprocessingSettings(roi_key="roi", refine=["dilate 2"])
    scene = Scene((1.0, 1.0), roi=np.array([[0, 0, 0, 1, 1, 1]], bool))
    # as without the region, and then cut
    assert postprocess(labels, options, scene).tolist() == [[0, 0, 0, 1, 1, 0]]


def test_a_region_of_another_shape_is_refused():
    options = PostprocessingSettings(roi_key="roi")
    scene = Scene((1.0, 1.0), roi=np.ones((1, 4, 4)))
    with pytest.raises(DataError, match=r"roi_key: expected a mask .* \(4, 4\), found \(1, 4, 4\)"):
        postprocess(np.ones((4, 4), int), options, scene)
    with pytest.raises(ValueError, match="needs a region of interest"):
        postprocess(np.ones((4, 4), int), options, Scene((1.0, 1.0)))


def test_a_scene_without_units_has_voxels_of_size_one():
    assert without_units(3) == Scene((1.0, 1.0, 1.0))
    assert without_units(2).ndim == 2
