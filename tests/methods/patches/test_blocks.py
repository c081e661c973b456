"""Block by block equals whole: for any blocks, in 2-D and 3-D, with and without overlap."""

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.blockwise.store import open_store
from instaseg.methods.patches import assemble, blocks, patch_targets
from instaseg.methods.patches.block_steps import PatchJob
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.offsets import drop_flat_axis, lift, window


@dataclass(frozen=True)
class InMemory:
    """Patches of a small volume."""

    patches: np.ndarray
    probability: np.ndarray
    hidden: np.ndarray | None

    @property
    def shape(self):
        return self.probability.shape

    def foreground(self, box):
        return self.probability[box.slices]

    def overlap(self, box):
        return None if self.hidden is None else self.hidden[box.slices]

    def affinities(self, box, centres):
        # what lies outside the centres must not matter
        patches = np.full((len(self.patches), *box.shape), np.float32(0.9))
        at = np.argwhere(centres)
        patches[:, centres] = self.patches[(slice(None), *(at + np.array(box.begin)).T)]
        return patches


def here(function, tasks, description):
    assert description
    return [function(task) for task in tasks]


def label_in_blocks(folder, world, patch_shape, chosen, block_shape, margin=None, run=here):
    """Return what the blockwise labels are as one array, without the margin."""
    affinities, foreground, overlap = world
    ndim = foreground.ndim
    source = InMemory(
        lift(affinities, ndim),
        lift(foreground, ndim),
        None if overlap is None else lift(overlap, ndim),
    )
    shape = (1,) * (3 - ndim) + tuple(block_shape)
    margin = (0,) * (3 - ndim) + tuple(margin or (0,) * ndim)
    job = PatchJob(
        source=source,
        settings=chosen,
        window=window(drop_flat_axis(patch_shape, ndim)),
        blocks=BlockGrid(source.shape, shape, margin),
        ndim=ndim,
        store=open_store(folder, f"{block_shape}"),
    )
    painted = blocks.label_blocks(job, run)
    labels = np.zeros(painted.shape, np.int32)
    for place, values in painted.parts():
        labels[place] = values
    return labels


def noisy_world(seed, shape, patch_shape):
    """Return random patches that agree with each other in part, so that all branches are taken."""
    rng = np.random.default_rng(seed)
    k = int(np.prod(patch_shape))
    affinities = rng.random((k, *shape), dtype=np.float32) ** rng.choice([0.5, 1, 2])
    foreground = rng.random(shape) < 0.8
    overlap = rng.random(shape) < 0.1 if seed % 2 else None
    return affinities, foreground, overlap


CASES = [
    {},
    {"thin_out": "greedy", "partition": "mutex"},
    {"cover": "sparse", "cover_mask": "skeleton", "fc_threshold": 0.3},
    {"output": "packed", "thin_out": "greedy", "patch_threshold": 0.6, "partition": "mutex"},
    {"output": "one_per_channel", "score_threshold": 0.0, "single_patches": "drop"},
    {"vote": "product", "consensus": "sum", "rank": "signs", "patch_distance": 1},
    {"ignore_small_components": 6},
    {"patch_threshold": 0.7, "paint_threshold": 0.4, "paint": "foreground", "output": "packed"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
@settings(max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_blocks_equal_whole(case, data):
    patch_shape = data.draw(st.sampled_from([(5, 5), (3, 7), (3, 3, 3), (1, 5, 5), (3, 3, 5)]))
    shape = [
        data.draw(st.integers(side, 24 if len(patch_shape) == 2 else 12)) for side in patch_shape
    ]
    block_shape = [data.draw(st.integers(2, side + 3)) for side in shape]
    if np.prod(np.ceil(np.array(shape) / block_shape)) > 60:
        block_shape = [max(4, side) for side in block_shape]
    world = noisy_world(data.draw(st.integers(0, 99)), shape, patch_shape)
    chosen = LabelSettings(**case)
    expected = assemble(
        world[0], world[1], patch_shape=patch_shape, settings=chosen, overlap=world[2]
    )
    with tempfile.TemporaryDirectory() as folder:
        found = label_in_blocks(Path(folder) / "blocks", world, patch_shape, chosen, block_shape)
    np.testing.assert_array_equal(found, expected)


def striped_world():
    """Return a plane of wavy stripes with noise, enough for several rounds of selection."""
    y, x = np.mgrid[:40, :60]
    labels = 1 + (x + (3 * np.sin(y / 5)).astype(int)) // 8
    rng = np.random.default_rng(1)
    truth = patch_targets(labels, (7, 7))
    noise = rng.random(truth.shape, dtype=np.float32) * 0.45
    return np.where(truth, 1 - noise, noise), rng.random(labels.shape) < 0.95, None


THINNED = LabelSettings(thin_out="greedy", partition="mutex")


def test_two_workers_give_what_one_gives(tmp_path):
    """In 2-D, and in 3-D with overlaps and instances in channels."""
    packed = LabelSettings(output="packed", thin_out="greedy", partition="mutex")
    cases = [
        (striped_world(), (7, 7), THINNED, (16, 16)),
        (noisy_world(1, (9, 10, 11), (3, 3, 3)), (3, 3, 3), packed, (5, 6, 6)),
    ]
    with Pool(Workers(count=2)) as pool:
        for number, (world, patch_shape, chosen, block_shape) in enumerate(cases):
            affinities, foreground, overlap = world
            expected = assemble(
                affinities, foreground, patch_shape=patch_shape, settings=chosen, overlap=overlap
            )
            found = label_in_blocks(
                tmp_path / f"blocks{number}",
                world,
                patch_shape,
                chosen,
                block_shape,
                run=lambda function, tasks, step: pool.run(function, tasks, description=step),
            )
            np.testing.assert_array_equal(found, expected)


class Killed(BaseException):
    """What ends a run in the middle."""


def test_a_killed_run_goes_on_with_the_missing_blocks(tmp_path):
    world = striped_world()
    expected = assemble(world[0], world[1], patch_shape=(7, 7), settings=THINNED)
    done = []

    def until(limit):
        def run(function, tasks, step):
            results = []
            for task in tasks:
                if len(done) == limit:
                    raise Killed
                done.append((step, task.number))
                results.append(function(task))
            return results

        return run

    for limit in (1, 5, 30, 50, 70):
        with suppress(Killed):
            label_in_blocks(tmp_path / "b", world, (7, 7), THINNED, (16, 16), run=until(limit))
    found = label_in_blocks(tmp_path / "b", world, (7, 7), THINNED, (16, 16), run=until(None))
    np.testing.assert_array_equal(found, expected)
    ranked = [number for step, number in done if step == "rank patches"]
    assert sorted(ranked) == list(range(12))  # each once


def test_the_margin_belongs_to_the_blocks_at_the_rim(tmp_path):
    world = striped_world()
    expected = assemble(world[0], world[1], patch_shape=(7, 7), settings=THINNED)[3:-3, 3:-3]
    found = label_in_blocks(tmp_path / "b", world, (7, 7), THINNED, (17, 20), margin=(3, 3))
    numbers = {(a, b) for a, b in zip(found.ravel(), expected.ravel(), strict=True)}
    assert len(numbers) == len(np.unique(found)) == len(np.unique(expected))
