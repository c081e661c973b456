"""Flooding in blocks is flooding the whole, voxel by voxel, also after it was interrupted."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from instaseg.blockwise.grid import BlockGrid, read_part
from instaseg.blockwise.store import open_store
from instaseg.geometry import whole
from instaseg.regions.flood import flood
from instaseg.regions.flood_blocks import Basin, FloodJob, flood_blocks, labels_of


@dataclass(frozen=True)
class Arrays:
    """A basin in memory."""

    blocks: BlockGrid
    whole: Basin

    def basin(self, number):
        box = self.blocks.boxes[number].slices
        return Basin(*(None if part is None else part[box] for part in self.whole))


class Memory(dict):
    """A store without a disk."""

    def has(self, step, block):
        return (step, block) in self

    def write(self, step, block, arrays):
        self[step, block] = dict(arrays)

    def read(self, step, block, names=None):
        arrays = self[step, block]
        return {name: arrays[name] for name in (names or arrays)}


def serial(function, tasks, step):
    assert step
    return [function(task) for task in tasks]


def simultaneous(function, tasks, step):
    """Run tasks such that none sees what the others of its round write."""
    assert step
    store = tasks[0].job.store
    before, written, results = dict(store), {}, []
    for task in tasks:
        store.clear()
        store.update(before)
        results.append(function(task))
        written |= {key: store[key] for key in store if store[key] is not before.get(key)}
    store.update(before | written)
    return results


def job_of(basin, block_shape, store, neighbours="faces", lengths=None):
    blocks = BlockGrid(basin.surface.shape, block_shape)
    source = Arrays(blocks, basin)
    return FloodJob(source, blocks, store, neighbours=neighbours, lengths=lengths)


def together(job):
    return read_part(job.store, job.step, job.blocks, whole(job.blocks.shape), name="labels")


@st.composite
def basins(draw):
    shape = draw(st.sampled_from([(1, 12), (7, 6), (9, 5), (4, 5, 4), (1, 6, 5)]))
    heights = st.sampled_from([-1, -0.0, 0, 0.5, 2])
    surface = draw(hnp.arrays(np.float32, shape, elements=heights))
    seeds = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0] * 12 + [1, 2, 3])))
    open_ = st.sampled_from([True] * 4 + [False])
    mask = draw(st.none() | hnp.arrays(bool, shape, elements=open_))
    return Basin(surface, seeds, mask)


@pytest.mark.parametrize("run", [serial, simultaneous])
@given(basin=basins(), data=st.data())
@settings(max_examples=25)
def test_blocks_of_any_shape_give_the_labels_of_the_whole(run, basin, data):
    shape = basin.surface.shape
    block_shape = tuple(data.draw(st.integers(1, n)) for n in shape)
    neighbours = data.draw(st.sampled_from(["faces", "all"]))
    lengths = data.draw(st.sampled_from([None, (4, 1, 1), (3, 5, 3)]))
    lengths = lengths and lengths[-len(shape) :]
    expected = flood(
        basin.surface, basin.seeds, mask=basin.mask, neighbours=neighbours, lengths=lengths
    )
    job = job_of(basin, block_shape, Memory(), neighbours, lengths)
    flood_blocks(job, run)
    assert together(job).tolist() == expected.tolist()


def smooth_basin(shape, seed):
    random = np.random.default_rng(seed)
    surface = random.integers(0, 12, shape).astype(np.float32)
    seeds = np.where(random.random(shape) < 0.01, random.integers(1, 50, shape), 0)
    return Basin(surface, seeds, random.random(shape) < 0.9)


@pytest.mark.parametrize("shape", [(60, 61), (10, 11, 12)])
def test_a_way_through_many_blocks(shape):
    basin = smooth_basin(shape, 5)
    expected = flood(basin.surface, basin.seeds, mask=basin.mask)
    job = job_of(basin, tuple(n // 3 for n in shape), Memory())
    flood_blocks(job, serial)
    assert (together(job) == expected).all()
    assert (labels_of(job, 0) == expected[job.blocks.boxes[0].slices]).all()


def test_one_seed_floods_all_blocks_one_after_the_other():
    surface = np.zeros((1, 12), np.float32)
    seeds = np.zeros((1, 12), int)
    seeds[0, 11] = 4
    job = job_of(Basin(surface, seeds, None), (1, 1), Memory())
    flood_blocks(job, serial)
    assert together(job).tolist() == [[4] * 12]


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 5, 17, 18, 23])
def test_a_run_that_was_killed_goes_on(tmp_path, after):
    basin = smooth_basin((24, 25), 6)
    expected = flood(basin.surface, basin.seeds, mask=basin.mask)
    job = job_of(basin, (8, 5), open_store(tmp_path / "blocks", "this"))
    left = [after]

    def dying(function, tasks, step):
        assert step
        for task in tasks:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            yield function(task)

    with pytest.raises(KilledError):
        flood_blocks(job, lambda *args: list(dying(*args)))
    flood_blocks(job, serial)
    assert (together(job) == expected).all()
    # what is finished is not looked at again
    flood_blocks(job, lambda *_: pytest.fail("nothing is left to do"))
