"""Label a large synthetic volume of sparse neurons in blocks; partition a graph of many patches.

::

    python benchmarks/large_volume.py volume --side 1024 --block 96 --workers 1
    python benchmarks/large_volume.py graph --nodes 10000000 --edges-per-node 5

The volume's codes are made on the fly, for the box that is asked for, and decoded there, so that
nothing but results of blocks and the labels lie on disk. Prints time, peak memory of the largest
process, and how the neurons came back.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.grid import BlockGrid
from instaseg.blockwise.scheduler import Pool, Workers
from instaseg.blockwise.store import open_store
from instaseg.geometry import Box
from instaseg.io.arrays import new_array, open_array
from instaseg.methods.patches.block_steps import PatchJob
from instaseg.methods.patches.blocks import add_edges, label_blocks
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.offsets import window
from instaseg.methods.patches.patch_graph import EdgeSums, weighted_graph
from instaseg.methods.patches.stored import decode_patches
from instaseg.regions.partition import partition

PATCH_SHAPE = (7, 7, 7)
RADIUS = 2


@dataclass(frozen=True)
class Neurons:
    """Random walks through a cube, thick as tubes; their patches are right but for noise.

    Parameters
    ----------
    side : int
        Of the cube, in voxels.
    count : int
        Number of neurons.
    seed : int
        Of walks and noise.
    """

    side: int
    count: int
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """The volume in voxels."""
        return self.side, self.side, self.side

    @cached_property
    def points(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Centre lines: positions ``(n, 3)``, about a voxel apart, and whose they are."""
        rng = np.random.default_rng(self.seed)
        positions, owners = [], []
        for neuron in range(1, self.count + 1):
            for _ in range(3):
                steps = rng.normal(size=(4 * self.side, 3))
                for axis in range(3):
                    steps[:, axis] = np.convolve(steps[:, axis], np.ones(60) / 60, mode="same")
                steps /= np.linalg.norm(steps, axis=1, keepdims=True)
                start = positions[-1][0] if owners and owners[-1][0] == neuron else None
                origin = rng.uniform(0.1, 0.9, 3) * self.side if start is None else start
                walk = np.rint(origin + np.cumsum(steps, axis=0)).astype(np.int64)
                inside = ((walk >= 8) & (walk < self.side - 8)).all(axis=1)
                walk = walk[: np.argmin(inside)] if not inside.all() else walk
                if len(walk):
                    positions.append(walk)
                    owners.append(np.full(len(walk), neuron, np.int32))
        return np.concatenate(positions), np.concatenate(owners)

    def labels(self, box: Box) -> NDArray[np.int32]:
        """Return the neurons in a box; the later one where two meet."""
        positions, owners = self.points
        wide = box.grow([RADIUS] * 3)
        near = ((positions >= wide.begin) & (positions < wide.end)).all(axis=1)
        padded = np.zeros(wide.grow([RADIUS] * 3).shape, np.int32)
        centre = positions[near] - np.array(wide.begin) + RADIUS
        ball = np.argwhere(
            (np.indices((2 * RADIUS + 1,) * 3) - RADIUS).__pow__(2).sum(axis=0) <= RADIUS**2 + 1
        )
        for offset in ball - RADIUS:
            np.maximum.at(padded, tuple((centre + offset).T), owners[near])
        cut = tuple(slice(2 * RADIUS, n - 2 * RADIUS) for n in padded.shape)
        return padded[cut]

    def foreground(self, box: Box) -> NDArray[np.bool_]:
        """Return where neurons are."""
        return self.labels(box) > 0

    def overlap(self, box: Box) -> None:
        """Return None: neurons do not overlap."""
        del box

    def affinities(self, box: Box, centres: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return patches at `centres`, decoded from codes as those of a network would be."""
        codes = np.zeros((CODE_UNITS, *box.shape), np.uint8)
        codes[:, centres] = self._codes(box, np.argwhere(centres))
        return decode_patches(codes, centres, decode, patch_size=math.prod(PATCH_SHAPE))

    def _codes(self, box: Box, at: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return codes ``(units, n)``: the bits of true patches, and a seed of the noise."""
        patch = window(PATCH_SHAPE)
        labels = self.labels(box.grow(patch.radius))
        own = labels[tuple((at + patch.radius).T)]
        bits = np.stack(
            [labels[tuple((at + patch.radius + offset).T)] == own for offset in patch.offsets()]
        )
        key = ((at + np.array(box.begin)) * np.array([73856093, 19349663, 83492791])).sum(axis=1)
        return np.concatenate([np.packbits(bits, axis=0), (key[None] >> 7).astype(np.uint8)])


CODE_UNITS = -(-math.prod(PATCH_SHAPE) // 8) + 1


def decode(codes: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probabilities ``(K, n)`` that codes ``(units, n)`` stand for: patches with noise.

    The noise of a voxel is the same in any block.
    """
    size = math.prod(PATCH_SHAPE)
    same = np.unpackbits(codes[:-1], axis=0, count=size).astype(bool)
    noise = ((codes[-1].astype(np.int64) + np.arange(size)[:, None] * 2654435761) >> 7) % 60
    return (np.where(same, 255 - noise, noise) / 255).astype(np.float32)


def label_volume(side: int, block: int, workers: int, folder: Path) -> None:
    """Label a cube of neurons and print what it took."""
    neurons = Neurons(side, count=max(3, side // 16))
    job = PatchJob(
        source=neurons,
        settings=LabelSettings(cover="sparse", thin_out="greedy", partition="mutex"),
        window=window(PATCH_SHAPE),
        blocks=BlockGrid(neurons.shape, (block,) * 3),
        ndim=3,
        store=open_store(folder / "blocks", f"{side} {block}"),
    )
    begin = time.perf_counter()
    with Pool(Workers(workers)) as pool:
        painted = label_blocks(
            job, lambda function, tasks, step: pool.run(function, tasks, description=step)
        )
        output = folder / "labels.zarr"
        with new_array(
            output, "labels", shape=painted.shape, dtype="int32", chunks=(block,) * 3
        ) as writer:
            for place, values in painted.parts():
                writer[place] = values
    seconds = time.perf_counter() - begin
    print(f"{side}^3 voxels, {len(job.blocks)} blocks of {block}^3, {workers} workers")
    print(f"{seconds:.0f} s; peak memory of a process {_peak():.2f} GiB")
    _compare(neurons, output, block)


def _compare(neurons: Neurons, output: Path, block: int) -> None:
    """Print how many neurons are mostly one label, block by block."""
    reader = open_array(output, "labels")
    counts: dict[tuple[int, int], int] = {}
    for box in BlockGrid(neurons.shape, (block,) * 3).boxes:
        truth = neurons.labels(box)
        mask = truth > 0
        pairs = np.column_stack([truth[mask], reader[box.slices][mask]])
        for (a, b), n in zip(*_counted(pairs), strict=True):
            counts[a, b] = counts.get((a, b), 0) + n
    sizes: dict[int, int] = {}
    for (a, _), n in counts.items():
        sizes[a] = sizes.get(a, 0) + n
    whole = sum(
        max(n for (other, label), n in counts.items() if other == a and label) > 0.9 * size
        for a, size in sizes.items()
    )
    print(f"foreground {sum(sizes.values())} voxels; {whole} of {len(sizes)} neurons are one label")


def _counted(pairs: NDArray[np.int32]) -> tuple[list[tuple[int, int]], list[int]]:
    found, number = np.unique(pairs, axis=0, return_counts=True)
    return [(int(a), int(b)) for a, b in found], [int(n) for n in number]


@dataclass(frozen=True)
class RandomEdges:
    """What blocks add to a random graph of near nodes; a fifth of each part comes twice."""

    nodes: int
    edges_per_node: int
    parts: int = 1000

    def __call__(self) -> Iterator[EdgeSums]:
        """Yield the parts, made anew each time."""
        ends = np.linspace(0, self.nodes, self.parts + 1).astype(np.int64)
        steps = np.arange(1, self.edges_per_node + 1) ** 3
        for number, (begin, end) in enumerate(itertools.pairwise(ends)):
            rng = np.random.default_rng(number)
            own = np.arange(max(0, begin - (end - begin) // 5), end)
            first, second = np.repeat(own, len(steps)), (own[:, None] + steps).ravel()
            edges = np.column_stack([first, second])[second < self.nodes]
            every = np.stack([rng.normal(300, 500, len(edges)), rng.uniform(1, 900, len(edges))])
            every = every.T.astype(np.int64) + np.array([0, 1])
            yield EdgeSums(edges, every, every // 10)


def partition_graph(nodes: int, edges_per_node: int) -> None:
    """Add up the edges of blocks, partition the graph, and print what it took."""
    begin = time.perf_counter()
    sums = add_edges(RandomEdges(nodes, edges_per_node), nodes)
    graph = weighted_graph(sums, nodes, scale=1e-3, same_patch_weight=0.2)
    del sums
    seconds = time.perf_counter() - begin
    print(f"edges added up: {seconds:.0f} s, peak memory {_peak():.1f} GiB", flush=True)
    for how in ("components", "mutex"):
        begin = time.perf_counter()
        instances = partition(graph, how=how)
        seconds = time.perf_counter() - begin
        print(
            f"{how}: {nodes} patches, {len(graph.edges)} edges, {instances.max()} instances:"
            f" {seconds:.0f} s, peak memory {_peak():.1f} GiB",
            flush=True,
        )


def _peak() -> float:
    """Return the peak memory of this process or of its largest child, in GiB."""
    usage: list[Any] = [
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return max(one.ru_maxrss for one in usage) / 2**20


def main() -> None:
    """Run what the command line names."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    volume = commands.add_parser("volume", help="label a cube of neurons")
    volume.add_argument("--side", type=int, default=256)
    volume.add_argument("--block", type=int, default=96)
    volume.add_argument("--workers", type=int, default=1)
    volume.add_argument("--folder", type=Path, help="kept, and gone on with, instead of a new one")
    graph = commands.add_parser("graph", help="partition a graph")
    graph.add_argument("--nodes", type=int, default=10**6)
    graph.add_argument("--edges-per-node", type=int, default=5)
    found = parser.parse_args()
    if found.command == "graph":
        partition_graph(found.nodes, found.edges_per_node)
    elif found.folder:
        label_volume(found.side, found.block, found.workers, found.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            label_volume(found.side, found.block, found.workers, Path(folder))


if __name__ == "__main__":
    # as a module: what a script defines cannot be sent to other processes
    import large_volume

    sys.exit(large_volume.main())
