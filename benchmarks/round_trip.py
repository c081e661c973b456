"""Do perfect patches give the instances back they were made from?

    python benchmarks/round_trip.py --data samples/test --patch-shape 41 41

reads samples as ``prepare.py`` writes them, makes patches of their ground truth, assembles them,
and prints how many instances come back with an intersection over union above 0.95, and why the
others do not. ``--set key=value`` changes a key of ``[vote_instances]``.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.io.arrays import has_array, open_array
from instaseg.io.samples import read_whole
from instaseg.methods.patches import assemble, patch_targets
from instaseg.methods.patches.config import LabelSettings
from instaseg.metrics.matching import match
from instaseg.metrics.overlaps import find_instances
from instaseg.metrics.scores import locate_by_voxels

KEYS = ("volumes/gt_instances", "volumes/gt_labels")
SETTINGS = {"partition": "mutex", "thin_out": "greedy", "output": "packed"}
ENOUGH = 0.95


@dataclass(frozen=True)
class Lost:
    """An instance that does not come back.

    Parameters
    ----------
    sample : str
        Its sample.
    instance : int
        Its number in the sample, from 0.
    iou : float
        Its best intersection over union with what came out.
    reason : str
        Why.
    """

    sample: str
    instance: int
    iou: float
    reason: str


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of samples")
    parser.add_argument("--patch-shape", type=int, nargs="+", required=True, help="2 or 3 sides")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="parameter")
    parser.add_argument("--sample", action="append", help="only these samples")
    parser.add_argument(
        "--count",
        choices=("instances", "pieces"),
        default="instances",
        help="whole instances, or their pieces that no patch sees together: a crop cuts apart",
    )
    return parser.parse_args(command_line)


def settings_of(pairs: Sequence[str]) -> LabelSettings:
    """Return the parameters, with those of the command line."""
    chosen: dict[str, Any] = dict(SETTINGS)
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            chosen[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            chosen[key] = value
    return LabelSettings(**chosen)


def read_truth(path: Path, ndim: int) -> NDArray[np.bool_]:
    """Return the instances of a sample as channels ``(n, [z,] y, x)``."""
    key = next(key for key in KEYS if has_array(path, key))
    truth = read_whole(open_array(path, key))
    if truth.ndim == ndim + 1:
        return truth != 0
    labels = [label for label in np.unique(truth) if label > 0]
    return np.stack([truth == label for label in labels])


def pieces_of(instances: NDArray[np.bool_], patch_shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return the pieces of all instances that lie farther apart than half a patch, as channels."""
    from scipy.ndimage import binary_dilation, label

    everywhere = np.ones((3,) * (instances.ndim - 1))
    half = np.ones([2 * (side // 4) + 1 for side in patch_shape])
    pieces = []
    for instance in instances:
        numbers, count = label(binary_dilation(instance, half), everywhere)
        pieces += [instance & (numbers == number) for number in range(1, count + 1)]
    return np.stack(pieces)


def targets(instances: NDArray[np.bool_], patch_shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return the patches of all instances; each is worked out in its own box."""
    if not (np.count_nonzero(instances, axis=0) > 1).any():
        numbers = np.arange(1, len(instances) + 1).reshape(-1, *(1,) * (instances.ndim - 1))
        return patch_targets((instances * numbers).sum(axis=0), patch_shape)
    return patch_targets(instances, patch_shape)


def round_trip(
    instances: NDArray[np.bool_], patch_shape: Sequence[int], settings: LabelSettings
) -> NDArray[np.int32]:
    """Return what assembly makes of the patches of `instances`, as ``(channels, [z,] y, x)``.

    Parameters
    ----------
    instances : (n, [z,] y, x) bool
        Ground truth; mirrored beyond the border as in prediction.
    """
    margin = [side // 2 for side in patch_shape]
    wide = np.pad(instances, [(0, 0), *((m, m) for m in margin)], mode="reflect")
    count = np.count_nonzero(wide, axis=0)
    found = assemble(
        targets(wide, patch_shape),
        count > 0,
        patch_shape=patch_shape,
        settings=settings,
        overlap=count > 1,
    )
    found = found if found.ndim == instances.ndim else found[np.newaxis]
    inner = tuple(slice(m, n - m) for m, n in zip(margin, found.shape[1:], strict=True))
    return found[(slice(None), *inner)]


def compare(
    name: str, instances: NDArray[np.bool_], found: NDArray[np.int32], patch_shape: Sequence[int]
) -> tuple[int, int, list[Lost]]:
    """Return how many instances came out, how many are right, and those that are lost."""
    ndim = len(patch_shape)
    true = find_instances(instances.astype(np.uint8), ndim=ndim)
    predicted = find_instances(found, ndim=ndim)
    scores = locate_by_voxels(true, predicted).score
    (matches,) = match(scores, [ENOUGH])
    table = scores.dense()
    lost = [
        Lost(name, i, float(table[i].max(initial=0)), reason(i, instances, table, patch_shape))
        for i in sorted(set(range(len(true))) - set(matches.truth.tolist()))
    ]
    return len(predicted), len(matches), lost


def reason(
    one: int, instances: NDArray[np.bool_], table: NDArray[np.float64], patch_shape: Sequence[int]
) -> str:
    """Return why an instance is not found, as far as its own shape tells."""
    from scipy.ndimage import find_objects, label

    ndim = len(patch_shape)
    everywhere = np.ones((3,) * ndim)
    parts = label(instances[one], everywhere)[1]
    if parts > 1:
        return f"its ground truth is in {parts} pieces"
    alone = instances[one] & (np.count_nonzero(instances, axis=0) == 1)
    if not alone.any():
        return "it lies in overlaps entirely"
    pieces, number = label(alone, everywhere)
    sizes = np.bincount(pieces.ravel())[1:]
    hidden = label(instances[one] & ~alone, everywhere)[0]
    extents = [
        max(s.stop - s.start for s in box) for box in find_objects(hidden) if box is not None
    ]
    candidates = np.flatnonzero(table[one] > 0)
    text = f"{number} visible pieces of {', '.join(map(str, sizes))} voxels"
    if extents:
        text += f", overlaps as long as {max(extents)} voxels"
    return f"{text}; {len(candidates)} of the instances found touch it"


def samples_of(folders: Sequence[Path], names: Sequence[str] | None) -> Iterator[Path]:
    """Yield the samples of all folders."""
    for folder in folders:
        for path in sorted(folder.glob("*.zarr")):
            if not names or path.stem in names:
                yield path


def main(command_line: Sequence[str]) -> int:
    """Print the table; return 1 if fewer than 99 % of the instances come back."""
    options = arguments(command_line)
    settings = settings_of(options.set)
    total = right = 0
    lost: list[Lost] = []
    print(f"{'sample':<36}{'true':>6}{'found':>7}{'right':>7}{'seconds':>9}")
    for path in samples_of(options.data, options.sample):
        instances = read_truth(path, len(options.patch_shape))
        begin = time.perf_counter()
        out = round_trip(instances, options.patch_shape, settings)
        seconds = time.perf_counter() - begin
        truth = (
            instances if options.count == "instances" else pieces_of(instances, options.patch_shape)
        )
        found, matched, missing = compare(path.stem, truth, out, options.patch_shape)
        print(f"{path.stem:<36}{len(truth):>6}{found:>7}{matched:>7}{seconds:>9.1f}", flush=True)
        total, right, lost = total + len(truth), right + matched, lost + missing
    share = right / total if total else 0.0
    print(f"{right} of {total} {options.count} ({share:.1%}) come back with an IoU above {ENOUGH}")
    for one in lost:
        print(f"  {one.sample}, instance {one.instance}: IoU {one.iou:.3f}; {one.reason}")
    return 0 if share >= 0.99 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
