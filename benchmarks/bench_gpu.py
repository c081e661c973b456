"""Assembly and training on a GPU: ``python benchmarks/bench_gpu.py --device cuda``.

Prints a table of consensus and ranking, numba on all cores against torch on the device, and one of
training iterations. Runs on the processor as well (``--device cpu --quick``), where torch's kernels
are slow: they are written for a GPU.
"""

import argparse
import itertools
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from instaseg.errors import InstasegError
from instaseg.methods.base import Head
from instaseg.methods.patches import assembly, patch_targets
from instaseg.methods.patches.config import LabelSettings
from instaseg.methods.patches.consensus import VoteRule
from instaseg.methods.patches.kernels import choose_kernels
from instaseg.methods.patches.torch_kernels import TorchKernels
from instaseg.models.config import ModelSettings
from instaseg.models.network import build_network
from instaseg.training.config import OptimizerSettings, TrainingSettings
from instaseg.training.loop import TrainingRun, train

WORLDS = {
    "9x9": ((256, 256), (9, 9)),
    "25x25": ((192, 192), (25, 25)),
    "7x7x7": ((40, 96, 96), (7, 7, 7)),
}
QUICK = {"5x5": ((64, 64), (5, 5)), "3x3x3": ((12, 24, 24), (3, 3, 3))}


def world(shape, patch_shape, seed=0):
    """Return affinities with errors (float32) of random ellipsoids, and their foreground."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int32)
    grid = np.indices(shape)
    count = int(80 * np.prod(shape) / 256**2) if len(shape) == 2 else 40
    for number in range(1, count + 1):
        centre, radius = rng.integers(0, shape), rng.integers(7, 14, len(shape))
        terms = zip(grid, centre, radius, strict=True)
        labels[sum(((g - c) / r) ** 2 for g, c, r in terms) < 1] = number
    truth = patch_targets(labels, patch_shape)
    error = np.abs(rng.normal(0, 0.15, truth.shape)).astype(np.float32)
    affinities = np.where(truth > 0, 1 - error, error).astype(np.float32)
    affinities[:, labels == 0] *= 0.3
    return np.clip(affinities, 0, 1), labels > 0


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fastest(function, device, rounds):
    """Return the least time in seconds after one call that warms up, and the result."""
    times = []
    result = function()
    for _ in range(rounds):
        wait(device)
        begin = time.perf_counter()
        result = function()
        wait(device)
        times.append(time.perf_counter() - begin)
    return min(times), result


def measured(kernels, volume, device, rounds):
    """Return the times of consensus and ranking, and the scores."""
    rule, affinities = VoteRule(), volume.inputs.affinities

    def consensus():
        return kernels.consensus(
            affinities, volume.visible, volume.centres, window=volume.inputs.window, rule=rule
        )

    def rank():
        return kernels.rank(affinities, votes, volume.centres, rule=rule, signs=False)

    votes_time, votes = fastest(consensus, device, rounds)
    rank_time, scores = fastest(rank, device, rounds)
    return votes_time, rank_time, scores


def bench_assembly(device, worlds, rounds):
    print("\npatch    voxels   step        numba s   torch s   ratio   largest difference")
    for name, (shape, patch_shape) in worlds.items():
        affinities, foreground = world(shape, patch_shape)
        inputs = assembly.check_inputs(affinities, foreground, patch_shape, None)
        volume = assembly.prepare(inputs, LabelSettings())
        found = [
            measured(kernels, volume, device, rounds)
            for kernels in (choose_kernels("cpu"), TorchKernels(device))
        ]
        (votes, ranks, scores), (other_votes, other_ranks, other) = found
        difference = np.abs(scores - other).max()
        for step, ours, theirs in (
            ("consensus", votes, other_votes),
            ("ranking", ranks, other_ranks),
            ("both", votes + ranks, other_votes + other_ranks),
        ):
            print(
                f"{name:8} {volume.visible.sum():7d}   {step:9} {ours:9.4f} {theirs:9.4f}"
                f" {ours / theirs:7.2f}   {difference:.1e}"
            )


def patch_loss(outputs, batch):
    """Cross entropy of the patches of a quarter of the pixels, about the share of foreground."""
    rows = outputs["affs"].movedim(1, -1)[batch["chosen"]].float()
    part = binary_cross_entropy_with_logits(rows, torch.zeros_like(rows))
    return part, {"patch": part}


def iterations_per_second(device, settings, *, side, channels):
    """Return the rate of training without its first iterations, which compile and choose."""
    heads = [Head("affs", channels, "sigmoid", "volumes/pred_affs")]
    model = ModelSettings(
        padding="same", train_input_shape=(side, side), test_input_shape=(side, side)
    )
    batch = {
        "raw": torch.rand(settings.batch_size, 1, side, side),
        "chosen": torch.rand(settings.batch_size, side, side) < 0.25,
    }
    seen = []

    def batches(_):
        for _ in itertools.count():
            seen.append(time.perf_counter())  # each iteration ends with a look at its loss
            yield batch

    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(Path(folder), settings, OptimizerSettings(), device, seed=0)
        train(
            build_network(model, in_channels=1, ndim=2, heads=heads),
            patch_loss,
            run=run,
            batches=batches,
        )
    half = len(seen) // 2
    return (len(seen) - 1 - half) / (seen[-1] - seen[half])


def bench_training(device, options):
    print("\npatch   precision  memory          compile   iterations/s   crops/s   peak GiB")
    side, sizes = (64, (49,)) if options.quick else (256, (49, 625))
    precisions = ("float32", "bfloat16") + (("float16",) if device.type == "cuda" else ())
    for channels, precision, memory, mode in itertools.product(
        sizes, precisions, ("channels_first", "channels_last"), options.compile
    ):
        settings = TrainingSettings(
            max_iterations=6 if options.quick else options.iterations,
            batch_size=options.batch_size,
            precision=precision,
            memory_format=memory,
            compile=mode,
        )
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            rate = iterations_per_second(device, settings, side=side, channels=channels)
        except InstasegError as error:
            print(f"{channels:5}   {precision:10} {memory:15} {mode:9} {error}")
            continue
        peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0
        print(
            f"{channels:5}   {precision:10} {memory:15} {mode:9} {rate:12.2f}"
            f" {rate * settings.batch_size:9.1f} {peak:10.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--part", choices=("all", "assembly", "training"), default="all")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of so many counts")
    parser.add_argument("--iterations", type=int, default=40, help="of each training")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument(
        "--compile", nargs="+", default=["off", "default"], help="modes of training.compile"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    print(f"{device}: {name}; {os.cpu_count()} processor cores; torch {torch.__version__}")
    if options.part != "training":
        bench_assembly(device, QUICK if options.quick else WORLDS, options.rounds)
    if options.part != "assembly":
        bench_training(device, options)


if __name__ == "__main__":
    main()
