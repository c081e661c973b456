import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from instaseg.errors import DataError
from instaseg.postprocess.config import PostprocessingSettings, VoronoiSettings
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import Scene


def grown(labels, mask, spacing=None, **options):
    options = PostprocessingSettings(
        voronoi=VoronoiSettings(head="fgbg", **options), relabel="keep"
    )
    scene = Scene(spacing or (1.0,) * labels.ndim, mask=np.asarray(mask, bool))
    return postprocess(labels, options, scene)


def image(*rows):
    return np.array([[int(letter) for letter in row] for row in rows], np.uint8)


def test_growth_does_not_leak_across_a_gap():
    labels = image(
        "1000000",
        "0000000",
        "3000000",
    )
    mask = image(
        "1111111",
        "0000000",
        "1110111",
    )
    # the far end of the lower row is nearer to 1 through the air, but is no part of the mask
    assert grown(labels, mask).tolist() == (
        image(
            "1111111",
            "0000000",
            "3330000",
        ).tolist()
    )


def test_parts_without_an_instance_become_instances_where_asked():
    labels = np.array([[200, 0, 0, 0, 0, 0, 0, 255]], np.uint8)
    mask = [[1, 1, 0, 1, 1, 0, 1, 1]]
    assert grown(labels, mask).tolist() == [[200, 200, 0, 0, 0, 0, 255, 255]]
    new = grown(labels, mask, without_instance="new")
    assert new.tolist() == [[200, 200, 0, 256, 256, 0, 255, 255]]
    assert new.dtype == np.uint16


def test_growth_ends_at_the_limit_in_physical_units():
    labels, mask = np.array([[4, 0, 0, 0, 0, 0]]), np.ones((1, 6))
    assert grown(labels, mask, (1.0, 0.5), most=1).tolist() == [[4, 4, 4, 0, 0, 0]]
    # parts that an instance does not reach for the limit are not without one
    found = grown(labels, mask, (1.0, 0.5), most=1, without_instance="new")
    assert found.tolist() == [[4, 4, 4, 0, 0, 0]]


def test_spacing_decides_who_is_nearer():
    labels, mask = image("01", "20"), image("11", "11")
    assert grown(labels, mask, (1.0, 2.0)).tolist() == image("21", "21").tolist()
    assert grown(labels, mask, (2.0, 1.0)).tolist() == image("11", "22").tolist()
    # of equally near ones the smaller label
    assert grown(labels, mask, (2.0, 2.0)).tolist() == image("11", "21").tolist()


def test_instances_keep_what_lies_outside_the_mask_and_inputs_stay():
    labels, mask = image("1100", "0000"), image("0110", "0010")
    before = labels.copy()
    assert grown(labels, mask).tolist() == image("1110", "0010").tolist()
    assert (labels == before).all()


def test_corners_connect():
    labels, mask = image("100", "000", "000"), np.eye(3)
    assert grown(labels, mask).tolist() == np.eye(3).tolist()
    assert grown(labels, mask, most=1.5).tolist() == image("100", "010", "000").tolist()


def plain(labels, mask, spacing):
    """Return distances of all voxels to each label by Dijkstra's algorithm on an explicit graph."""
    open_, edges, lengths = mask | (labels > 0), [], []
    index = np.arange(labels.size).reshape(labels.shape)
    unit = min(spacing) / 1000
    for way in itertools.product((-1, 0, 1), repeat=labels.ndim):
        if not any(way):
            continue
        length = round(float(np.linalg.norm(np.multiply(way, spacing))) / unit)
        for place in itertools.product(*map(range, labels.shape)):
            other = tuple(np.add(place, way))
            if all(0 <= o < n for o, n in zip(other, labels.shape, strict=True)) and (
                open_[place] and mask[other] and labels[other] == 0
            ):
                edges.append((index[place], index[other]))
                lengths.append(length)
    row, column = np.array(edges, int).reshape(-1, 2).T
    graph = coo_array((np.array(lengths, float), (row, column)), (labels.size,) * 2).tocsr()
    result, best = labels.copy(), np.full(labels.size, np.inf)
    for label in np.unique(labels[labels > 0]):
        near = dijkstra(graph, indices=index[labels == label], min_only=True)
        nearer = (near < best) & (labels.ravel() == 0)
        best[nearer] = near[nearer]
        result.ravel()[nearer] = label
    return result


@given(
    st.sampled_from([(6, 7), (3, 4, 4)]),
    st.sampled_from([(1.0, 1.0, 1.0), (2.5, 1.0, 1.0), (1.0, 0.7, 1.3)]),
    st.integers(0, 99),
)
@settings(max_examples=25)
def test_every_voxel_goes_to_the_nearest_along_paths_in_the_mask(shape, spacing, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 5, shape) * (rng.random(shape) < 0.15)
    mask = rng.random(shape) < 0.6
    found = grown(labels, mask, spacing[-len(shape) :])
    np.testing.assert_array_equal(found, plain(labels, mask, spacing[-len(shape) :]))


def test_a_volume_of_one_slice_is_an_image():
    rng = np.random.default_rng(0)
    labels, mask = rng.integers(0, 9, (20, 20)) // 7, rng.random((20, 20)) < 0.6
    volume = grown(labels[None], mask[None], (2.0, 1.0, 1.0), most=4)
    assert volume[0].tolist() == grown(labels, mask, (1.0, 1.0), most=4).tolist()


def test_what_cannot_grow_is_refused():
    with pytest.raises(
        DataError, match=r"voronoi: expected a mask of the .* \(2, 2\), found \(2, 3\)"
    ):
        grown(np.ones((2, 2), int), np.ones((2, 3)))
    options = PostprocessingSettings(voronoi=VoronoiSettings(head="fgbg"))
    scene = Scene((1.0, 1.0), mask=np.ones((2, 2), bool))
    with pytest.raises(DataError, match=r"instances that may overlap, of shape \(3, 2, 2\)"):
        postprocess(np.ones((3, 2, 2), int), options, scene)
    with pytest.raises(ValueError, match="needs a mask"):
        postprocess(np.ones((2, 2), int), options, Scene((1.0, 1.0)))
