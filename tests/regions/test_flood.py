"""Flooding by waves is what plain relaxation gives; without equal heights, what skimage gives."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import watershed

from instaseg.regions.flood import Sources, flood, flood_from, step_lengths

SHAPES = st.sampled_from([(1, 12), (7, 6), (4, 5, 4), (1, 1, 9), (1, 1)])
NEIGHBOURS = st.sampled_from(["faces", "all"])
UNREACHED = (np.inf, 0)


def voxels_around(voxel, shape, neighbours, lengths):
    """Yield the neighbours of a voxel and how long the step to each is."""
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        far = sum(map(abs, step))
        if far == 1 or (far > 1 and neighbours == "all"):
            other = tuple(a + b for a, b in zip(voxel, step, strict=True))
            if all(0 <= a < n for a, n in zip(other, shape, strict=True)):
                away = math.hypot(*(s * n for s, n in zip(step, lengths, strict=True)))
                yield other, round(away) if len(set(lengths)) > 1 else 1


def extend(cost, height, length):
    """Return what a step of a length to a voxel of a height costs."""
    highest, before = cost
    return (highest, before + length) if height <= highest else (height, length)


def plain_flood(surface, seeds, mask, neighbours, lengths=None):
    """Return labels and costs by relaxing all voxels until nothing changes."""
    voxels = [v for v in np.ndindex(surface.shape) if mask[v]]
    cost = {v: (float(surface[v]), 0) if seeds[v] else UNREACHED for v in voxels}
    lengths = lengths or (1,) * surface.ndim
    around = {
        v: [(u, n) for u, n in voxels_around(v, surface.shape, neighbours, lengths) if u in cost]
        for v in voxels
    }
    changed = True
    while changed:
        changed = False
        for v in voxels:
            reached = [
                extend(cost[u], float(surface[v]), n) for u, n in around[v] if cost[u][0] < np.inf
            ]
            best = min([cost[v], *reached])
            changed |= best != cost[v]
            cost[v] = best
    labels = np.zeros(surface.shape, int)
    for v in sorted(voxels, key=cost.get):
        if seeds[v]:
            labels[v] = seeds[v]
        elif cost[v][0] < np.inf:
            labels[v] = min(
                (extend(cost[u], float(surface[v]), n), cost[u], labels[u])
                for u, n in around[v]
                if cost[u][0] < np.inf
            )[2]
    return labels, cost


@st.composite
def scenes(draw):
    """Draw a surface with few different heights, seeds and a mask."""
    shape = draw(SHAPES)
    surface = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([-1, -0.0, 0, 0.5, 2])))
    seeds = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0] * 9 + [1, 2, 3])))
    mask = draw(hnp.arrays(bool, shape, elements=st.sampled_from([True] * 4 + [False])))
    return surface, seeds, mask


LENGTHS = st.sampled_from([None, (4, 1, 1), (1, 3, 2), (7, 5, 5)])


def of_axes(lengths, surface):
    return lengths and lengths[-surface.ndim :]


@given(scene=scenes(), neighbours=NEIGHBOURS, lengths=LENGTHS)
@settings(max_examples=200)
def test_flooding_is_what_plain_relaxation_gives(scene, neighbours, lengths):
    surface, seeds, mask = scene
    before = [array.copy() for array in scene]
    lengths = of_axes(lengths, surface)
    labels, _ = plain_flood(surface, seeds, mask, neighbours, lengths)
    found = flood(surface, seeds, mask=mask, neighbours=neighbours, lengths=lengths)
    assert found.tolist() == labels.tolist()
    assert all((a == b).all() for a, b in zip(scene, before, strict=True))


@given(scene=scenes(), neighbours=NEIGHBOURS, lengths=LENGTHS, data=st.data())
@settings(max_examples=100)
def test_a_part_is_flooded_from_the_costs_around_it(scene, neighbours, lengths, data):
    surface, seeds, mask = scene
    lengths = of_axes(lengths, surface)
    labels, cost = plain_flood(surface, seeds, mask, neighbours, lengths)
    known = data.draw(hnp.arrays(bool, surface.shape)) | (seeds > 0)
    places = np.flatnonzero((labels > 0) & known)
    costs = [cost[np.unravel_index(place, surface.shape)] for place in places]
    sources = Sources(
        places,
        labels.reshape(-1)[places].astype(np.int32),
        np.array([c[0] for c in costs], np.float32),
        np.array([c[1] for c in costs], np.int32),
    )
    empty = mask & ~known
    grown = flood_from(surface, empty, sources, neighbours=neighbours, lengths=lengths)
    expected = np.where(mask & (~known | (labels > 0)), labels, 0)
    # what is not flooded and not known may cut others off, so only what is reached is compared
    assert (grown.labels == expected).all()
    for voxel in np.ndindex(surface.shape):
        reached = cost[voxel] if expected[voxel] else UNREACHED
        assert (grown.heights[voxel], grown.steps[voxel]) == reached


@pytest.mark.parametrize("shape", [(40, 37), (12, 14, 15)])
@pytest.mark.parametrize("neighbours", ["faces", "all"])
def test_without_equal_heights_it_is_the_watershed_of_skimage(shape, neighbours):
    random = np.random.default_rng(3)
    surface = random.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    seeds = np.where(random.random(shape) < 0.02, random.integers(1, 9, shape), 0)
    mask = random.random(shape) < 0.8
    connectivity = 1 if neighbours == "faces" else len(shape)
    theirs = watershed(surface, seeds, mask=mask, connectivity=connectivity)
    assert (flood(surface, seeds, mask=mask, neighbours=neighbours) == theirs).all()


def test_a_plateau_is_divided_in_the_middle_and_the_smaller_label_takes_the_tie():
    surface = np.zeros((1, 7), np.float32)
    assert flood(surface, np.array([[9, 0, 0, 0, 0, 0, 4]])).tolist() == [[9, 9, 9, 4, 4, 4, 4]]
    assert flood(surface, np.array([[4, 0, 0, 0, 0, 0, 9]])).tolist() == [[4, 4, 4, 4, 9, 9, 9]]


def test_a_ridge_belongs_to_the_lower_side():
    surface = np.array([[1, 5, 0]], np.float32)
    assert flood(surface, np.array([[1, 0, 2]])).tolist() == [[1, 2, 2]]


def test_labels_grow_inside_the_mask_only_and_seeds_outside_are_dropped():
    surface = np.zeros((1, 6), np.float32)
    mask = np.array([[1, 1, 0, 1, 1, 0]], bool)
    assert flood(surface, np.array([[0, 3, 0, 0, 0, 7]]), mask=mask).tolist() == [
        [3, 3, 0, 0, 0, 0]
    ]


def test_a_volume_of_one_slice_is_the_image():
    random = np.random.default_rng(4)
    surface = random.integers(0, 4, (15, 16)).astype(np.float32)
    seeds = np.where(random.random((15, 16)) < 0.05, random.integers(1, 5, (15, 16)), 0)
    for neighbours in ("faces", "all"):
        flat = flood(surface, seeds, neighbours=neighbours)
        assert (flood(surface[None], seeds[None], neighbours=neighbours)[0] == flat).all()


def test_without_seeds_or_voxels_there_is_nothing():
    assert flood(np.zeros((3, 4), np.float32), np.zeros((3, 4), int)).sum() == 0
    assert flood(np.zeros((3, 4), np.float32), np.zeros((3, 4), int), lengths=(2, 1)).sum() == 0
    assert flood(np.zeros((0, 4), np.float32), np.zeros((0, 4), int)).shape == (0, 4)


def test_a_plateau_is_divided_by_length_not_by_steps():
    seeds = np.zeros((4, 9), int)
    seeds[0, 0], seeds[0, 8] = 1, 2
    seeds[3, 4] = 3  # three steps down, each four times as long
    assert flood(np.zeros((4, 9), np.float32), seeds)[0, 4] == 3
    assert flood(np.zeros((4, 9), np.float32), seeds, lengths=(4, 1))[0, 4] == 1


def test_lengths_of_steps_are_sixteenths_of_the_shortest():
    assert step_lengths((2.2, 1.0, 1.0)) == (35, 16, 16)
    assert step_lengths((0.3, 0.3)) == (1, 1)
