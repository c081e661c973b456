"""Score connected components of a predicted foreground: what patches have to beat.

::

    python benchmarks/foreground_components.py --predictions EXPERIMENT/test/predicted/N --data test

Uses the head ``fgbg`` or ``numinst`` of every predicted sample, cut to the image; components are
joined by faces, edges and corners. Prints the mean over samples.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from instaseg.blockwise.components import local_labels
from instaseg.data.config import DataSettings
from instaseg.io.arrays import has_array, open_array
from instaseg.io.samples import find_samples, read_whole
from instaseg.methods.patches.stored import foreground_probability
from instaseg.metrics import score_instances
from instaseg.metrics.summary import mean_scores, value_of

KEYS = {"fgbg": "volumes/pred_fgbg", "numinst": "volumes/pred_numinst"}
COLUMNS = (
    "confusion_matrix.avS",
    "confusion_matrix.th_0_5.S",
    "confusion_matrix.th_0_7.S",
    "confusion_matrix.th_0_8.S",
    "confusion_matrix.th_0_9.S",
    "subsets.overlapping.recall_0_5",
    "subsets.overlapping.mean_iou",
)


def components(path: Path, shape: tuple[int, ...], threshold: float, small: int) -> np.ndarray:
    """Return the components of a sample's predicted foreground, without the prediction's margin.

    Those of at most `small` voxels are left out.
    """
    prediction = {
        name: read_whole(open_array(path, key))
        for name, key in KEYS.items()
        if has_array(path, key)
    }
    probability = foreground_probability(prediction)
    if probability is None:
        raise SystemExit(f"{path}: expected {' or '.join(KEYS.values())}, found neither")
    margins = [(n - m) // 2 for n, m in zip(probability.shape, shape, strict=True)]
    inner = tuple(slice(m, m + n) for m, n in zip(margins, shape, strict=True))
    labels = local_labels(probability[inner] > threshold).astype(np.int32)
    return np.where(np.bincount(labels.ravel())[labels] > small, labels, 0)


def main() -> None:
    """Score all samples that are predicted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ndim", type=int, choices=(2, 3), default=2)
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--remove-small", type=int, default=0)
    found = parser.parse_args()
    samples = find_samples(found.data, DataSettings(ndim=found.ndim))
    for threshold in found.threshold:
        scores = []
        for sample in samples:
            truth = sample.read_labels()
            path = found.predictions / f"{sample.name}.zarr"
            if truth is None or not path.exists():
                continue
            shape = truth.shape[-found.ndim :]
            labels = components(path, shape, threshold, found.remove_small)
            scores.append(score_instances(truth, labels, ndim=found.ndim, centre_lines="skip"))
        mean = mean_scores(scores)
        values = "  ".join(
            f"{name.split('.', 1)[1]} {value_of(mean, name):.3f}" for name in COLUMNS
        )
        print(f"foreground above {threshold:g}, {len(scores)} samples: {values}")


if __name__ == "__main__":
    main()
