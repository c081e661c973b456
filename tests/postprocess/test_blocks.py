"""Instances that are repaired block by block are those that are repaired at once."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from instaseg.blockwise.memory import run_here
from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork
from instaseg.errors import DataError
from instaseg.io.arrays import array_attributes, list_arrays, open_array, write_array
from instaseg.io.samples import read_whole
from instaseg.postprocess.blocks import Output, chunks_of_blocks, postprocess_blocks
from instaseg.postprocess.config import PostprocessingSettings, VoronoiSettings
from instaseg.postprocess.repair import postprocess
from instaseg.postprocess.scene import Scene, without_units


def work_in(folder, block_shape, run=run_here):
    return BlockWork(block_shape, open_store(folder / "a.repair", "this"), run)


def repaired(instances, options, *, ndim, block_shape, scene=None):
    with TemporaryDirectory() as folder:
        target = Output(Path(folder) / "a.zarr", "instances", {"fingerprint": "f"})
        postprocess_blocks(
            instances,
            options,
            scene or without_units(ndim),
            work=work_in(Path(folder), block_shape),
            output=target,
        )
        assert list_arrays(target.path) == ["instances"]
        assert [p.name for p in target.path.iterdir() if p.name[0] != "."] == ["instances"]
        assert array_attributes(target.path, "instances")["fingerprint"] == "f"
        return read_whole(open_array(target.path, "instances"))


FILLING = PostprocessingSettings(fill_holes="per_instance")
LARGEST = PostprocessingSettings(components="largest", relabel="keep")


def test_a_hole_across_blocks_is_filled_and_a_bay_is_not():
    ring = np.zeros((9, 9), np.uint16)
    ring[1:8, 1:8] = 5
    ring[3:6, 3:6] = 0
    ring[4, 4] = 7
    bay = ring.copy()
    bay[4, 5:] = 0
    filled = np.where(ring == 7, 2, np.pad(np.ones((7, 7)), 1))
    assert repaired(ring, FILLING, ndim=2, block_shape=(4, 4)).tolist() == filled.tolist()
    opened = repaired(bay, FILLING, ndim=2, block_shape=(4, 4))
    assert (opened > 0).tolist() == (bay > 0).tolist()


def test_the_largest_part_is_found_across_blocks():
    labels = np.array([[3, 3, 0, 3, 3, 3, 0, 4]], np.uint8)
    kept = repaired(labels, LARGEST, ndim=2, block_shape=(1, 4))
    assert kept.tolist() == [[0, 0, 0, 3, 3, 3, 0, 4]]
    assert kept.dtype == np.uint8


def test_instances_of_all_channels_get_numbers_of_their_own():
    masks = np.array([[[1, 0, 1]], [[0, 0, 0]], [[0, 1, 1]]], bool)
    numbered = repaired(masks, PostprocessingSettings(), ndim=2, block_shape=(1, 2))
    assert numbered.tolist() == [[[1, 0, 1]], [[0, 0, 0]], [[0, 2, 2]]]


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        (np.zeros((2, 2), np.float32), "labels must be integers; got float32"),
        (np.array([[0, 1, -3]]), "must not be negative; found -3"),
        (np.zeros((2, 2, 2, 2), int), "2 spatial axes"),
    ],
)
def test_bad_instances_are_named_and_nothing_is_written(tmp_path, instances, message):
    target = Output(tmp_path / "a.zarr", "instances", {})
    work = work_in(tmp_path, (1, 2))
    with pytest.raises(DataError, match=message):
        postprocess_blocks(instances, FILLING, without_units(2), work=work, output=target)
    assert not target.path.exists() or list_arrays(target.path) == []
    assert not list(tmp_path.rglob("*.partial"))


DTYPES = st.sampled_from([np.uint8, np.int32, np.uint64, bool])


@st.composite
def cases(draw):
    ndim = draw(st.integers(2, 3))
    side = st.integers(1, 14 if ndim == 2 else 7)
    spatial = tuple(draw(side) for _ in range(ndim))
    lead = draw(st.sampled_from([(), (1,), (2,)]))
    values = draw(
        hnp.arrays(np.uint8, (*lead, *spatial), elements=st.sampled_from([0, 0, 1, 1, 1, 9, 200]))
    )
    block_shape = tuple(draw(st.integers(2, 9)) for _ in range(ndim))
    return values.astype(draw(DTYPES)), ndim, block_shape


@given(
    cases(),
    st.builds(
        PostprocessingSettings,
        components=st.sampled_from(["all", "largest"]),
        fill_holes=st.sampled_from(["none", "per_instance"]),
        remove_small_comps=st.integers(0, 4),
        relabel=st.sampled_from(["sequential", "keep"]),
    ),
)
@settings(max_examples=30)
def test_any_blocks_give_the_result_of_the_whole(case, options):
    instances, ndim, block_shape = case
    wanted = postprocess(instances, options, without_units(ndim))
    found = repaired(instances, options, ndim=ndim, block_shape=block_shape)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


OPERATIONS = st.sampled_from(
    [
        *("dilate 1", "dilate 2.5", "erode 1", "erode 1.5", "fill_holes", "clear_border"),
        *("remove_small 3", "remove_large 20"),
    ]
)


@st.composite
def scenes(draw):
    """Draw instances with all that post-processing may need of a sample."""
    instances, ndim, block_shape = draw(cases())
    shape = instances.shape[-ndim:]
    spacing = tuple(draw(st.sampled_from([0.5, 1.0, 1.3])) for _ in range(ndim))
    seed = draw(st.integers(0, 99))
    mask = np.random.default_rng(seed).random(shape) < draw(st.sampled_from([0.3, 0.7]))
    roi = np.random.default_rng(seed).random(shape) < 0.7
    return instances, block_shape, Scene(spacing, roi, mask)


@given(
    scenes(),
    st.builds(
        PostprocessingSettings,
        components=st.sampled_from(["all", "largest"]),
        refine=st.lists(OPERATIONS, max_size=3),
        repair_size=st.sampled_from([0, 1, 8]),
        voronoi=st.just(VoronoiSettings())
        | st.builds(
            VoronoiSettings,
            head=st.just("fgbg"),
            most=st.sampled_from([None, 1.5]),
            without_instance=st.sampled_from(["background", "new"]),
        ),
        roi_key=st.sampled_from([None, "roi"]),
        measure=st.sampled_from([(), ("diameter", "extent")]),
        remove_where=st.sampled_from([(), (("extent < 0.6", "voxels > 2"),)]),
        relabel=st.sampled_from(["sequential", "keep"]),
    ),
)
@settings(max_examples=40)
def test_all_steps_together_are_the_same_in_any_blocks(case, options):
    instances, block_shape, scene = case
    if instances.ndim > scene.ndim:
        options = options.model_copy(update={"voronoi": VoronoiSettings()})
    before = instances.copy()
    wanted = postprocess(instances, options, scene)
    found = repaired(instances, options, ndim=scene.ndim, block_shape=block_shape, scene=scene)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype
    assert (instances == before).all()


@given(st.integers(0, 10**6), st.sampled_from([(7, 5), (12, 12), (30, 4)]))
@settings(max_examples=6)
def test_rings_in_rings_are_filled_as_in_the_whole(seed, block_shape):
    rng = np.random.default_rng(seed)
    labels = np.zeros((24, 26), np.int32)
    for label in rng.permutation(12) + 1:
        (y, x), (h, w) = rng.integers(0, 18, 2), rng.integers(3, 14, 2)
        ring = np.zeros(labels.shape, bool)
        ring[y : y + h, x : x + w] = True
        ring[y + 1 : y + h - 1, x + 1 : x + w - 1] = False
        labels[ring & (labels == 0)] = label
    wanted = postprocess(labels, FILLING, without_units(2))
    found = repaired(labels, FILLING, ndim=2, block_shape=block_shape)
    np.testing.assert_array_equal(found, wanted)


def test_one_slice_in_blocks_is_an_image_in_blocks():
    ring = np.zeros((12, 12), np.uint16)
    ring[1:10, 1:10] = 5
    ring[3:8, 3:8] = 0
    ring[5, 5] = 7
    ring[11, 4:9] = 9
    steps = PostprocessingSettings(refine=("fill_holes", "clear_border"), relabel="keep")
    wanted = repaired(ring, steps, ndim=2, block_shape=(4, 5))
    assert np.unique(wanted).tolist() == [0, 5, 7]
    assert (wanted[3:8, 3:8] > 0).all()
    found = repaired(ring[np.newaxis], steps, ndim=3, block_shape=(1, 4, 5))
    assert found[0].tolist() == wanted.tolist()


ALL_STEPS = PostprocessingSettings(
    components="largest",
    fill_holes="per_instance",
    refine=("erode 1", "dilate 2", "remove_small 2"),
    repair_size=20,
    roi_key="roi",
    measure=("diameter",),
    relabel="sequential",
)


def crowded(seed, shape=(40, 44)):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for label in range(1, 20):
        y, x = rng.integers(0, 36, 2)
        labels[y : y + rng.integers(3, 9), x : x + rng.integers(3, 9)] = label
    return labels, Scene((1.0, 1.0), roi=(rng.random(shape) < 0.95).astype(np.uint8))


def test_labels_of_64_bits_stay_what_they_are():
    labels = np.zeros((4, 6), np.uint64)
    labels[0, 0], labels[2:, 1:5] = 2**64 - 1, 2**63 + 1
    debris = PostprocessingSettings(remove_small_comps=1, relabel="keep")
    found = repaired(labels, debris, ndim=2, block_shape=(2, 3))
    wanted = np.where(labels == 2**63 + 1, labels, 0)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(postprocess(labels, debris, without_units(2)), wanted)
    grown = PostprocessingSettings(voronoi=VoronoiSettings(head="F", without_instance="new"))
    scene = Scene((1.0, 1.0), mask=np.ones((4, 6), bool))
    with pytest.raises(DataError, match=r"expected labels below 2\^63, found 18446744073709551615"):
        repaired(labels, grown, ndim=2, block_shape=(2, 3), scene=scene)


class KilledError(Exception):
    pass


def test_a_run_that_is_killed_after_a_step_leaves_no_scratch_array(tmp_path):
    """As a kill does, the array on disk stays when the last block of a step is written."""
    labels = np.repeat(np.arange(1, 4, dtype=np.uint8), 6).reshape(3, 6)
    target = Output(tmp_path / "a.zarr", "instances", {})
    work = work_in(tmp_path, (2, 3))
    there = []
    write = type(work.store).write

    class Watching(type(work.store)):
        def write(self, step, block, arrays):
            if step.endswith("_step0") and block == 3:
                there.append(sorted(p.name for p in target.path.glob("*.partial")))
            write(self, step, block, arrays)

    watched = BlockWork(work.block_shape, Watching(work.store.folder), run_here)
    postprocess_blocks(labels, FILLING, without_units(2), work=watched, output=target)
    assert there == [[]]


@pytest.mark.parametrize("after", [0, 3, 30, 75, 120])
def test_a_run_that_was_killed_goes_on_with_what_is_missing(tmp_path, after):
    labels, scene = crowded(1)
    wanted = postprocess(labels, ALL_STEPS, scene)
    target = Output(tmp_path / "a.zarr", "instances", {}, tmp_path / "a.csv")
    done = []

    def dying(function, tasks, step):
        found = []
        for task in tasks:
            if len(done) == after:
                raise KilledError
            found.append(function(task))
            done.append(step)
        return found

    def run_blocks(run):
        work = work_in(tmp_path, (13, 15), run)
        postprocess_blocks(labels, ALL_STEPS, scene, work=work, output=target)

    with pytest.raises(KilledError):
        run_blocks(dying)
    before = len(done)
    after = -1  # nobody dies any more
    run_blocks(dying)
    np.testing.assert_array_equal(read_whole(open_array(target.path, "instances")), wanted)
    again = [step for step in done[before:] if step.startswith("channel")]
    first = [step for step in done[:before] if step.startswith("channel")]
    # steps of blocks: 4 of 12 blocks each; none is done twice
    assert len(first) + len(again) == 4 * 12


def test_two_workers_give_the_same(tmp_path):
    labels, scene = crowded(2)
    write_array(tmp_path / "b.zarr", "labels", labels)
    write_array(tmp_path / "b.zarr", "roi", scene.roi)
    stored = open_array(tmp_path / "b.zarr", "labels")
    scene_on_disk = Scene(scene.spacing, roi=open_array(tmp_path / "b.zarr", "roi"))
    target = Output(tmp_path / "a.zarr", "instances", {}, tmp_path / "a.csv")
    with Pool(Workers(2)) as pool:

        def run(function, tasks, step):
            return pool.run(function, tasks, description=step)

        work = work_in(tmp_path, (20, 22), run)
        postprocess_blocks(stored, ALL_STEPS, scene_on_disk, work=work, output=target)
    found = read_whole(open_array(target.path, "instances"))
    np.testing.assert_array_equal(found, postprocess(labels, ALL_STEPS, scene))


@pytest.mark.parametrize(
    ("block", "shape", "chunks"),
    [
        ((256, 256, 256), (1000, 1000, 1000), (128, 128, 128)),
        ((4096, 4096), (5000, 5000), (1024, 2048)),
        ((7, 9), (5, 100), (5, 9)),
        ((4, 4), (0, 9), (1, 4)),
    ],
)
def test_blocks_are_whole_chunks(block, shape, chunks):
    assert chunks_of_blocks(block, shape) == chunks
