"""How well decodings of the deep watershed do with perfect predictions: no network does better.

    python benchmarks/decoding_ceilings.py --seeds 5

Images are those of experiments/sartorius/generate.py: 520 x 704 pixels with cells like cort, shsy5y
and astro, some of which overlap. Printed is TP / (TP + FP + FN), mean over the IoU thresholds 0.5,
0.55 ... 0.95 and over images. True cells keep their overlaps, so no instances without overlaps can
reach 1 ("painted" is the most they can). With --apart the cells do not overlap.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments" / "sartorius")]

from generate import SHAPE, TYPES, as_layers, draw_cells  # noqa: E402

from instaseg.methods.deep_watershed.config import DeepWatershedSettings, LabelSettings  # noqa: E402
from instaseg.methods.deep_watershed.decoding import Evidence, find_instances  # noqa: E402
from instaseg.methods.deep_watershed.targets import make_targets, paint  # noqa: E402
from instaseg.metrics import score_instances  # noqa: E402

EDGES = DeepWatershedSettings().edges
# The published levels begin at these depths of the pixels' grid: 1, 1.41, 2, 2.24, 2.83, 3.16,
# 3.61, 4.24, 4.47, 5, 5.66, 5.83, 10, 20, 40, 80; the edges lie just below.
PUBLISHED = (
    *(0.5, 1.2, 1.7, 2.1, 2.5, 3.08, 3.4, 4.18, 4.36, 4.7, 5.5, 5.75),
    *(9.95, 19.97, 39.98, 79.99),
)
ALL = {"neighbours": "all", "grow": "dilate"}
# name: edges, width of walls, settings of the decoding; a cut of 1 keeps depths from 1.41 on
ROWS = {
    "components of the foreground": (EDGES, None, {"cut": 0.0, "grow": "none"}),
    "walls 3, components": (PUBLISHED, 3, {"cut": 0.0, "grow": "none", "neighbours": "all"}),
    "walls 5, components": (PUBLISHED, 5, {"cut": 0.0, "grow": "none", "neighbours": "all"}),
    "walls 5, level > 1, dilated 3 x 3 (published)": (PUBLISHED, 5, {"cut": 1.0, **ALL}),
    "walls 3, level > 1, dilated 3 x 3": (PUBLISHED, 3, {"cut": 1.0, **ALL}),
    "walls 3, level > 2, dilated 3 x 3": (PUBLISHED, 3, {"cut": 1.5, **ALL}),
    "walls 3, level > 1, flooded": (PUBLISHED, 3, {"cut": 1.0, "neighbours": "all"}),
    "cut 1, flooded (setup02)": (EDGES, None, {"cut": 1.0, "min_size": 10}),
    "cut 1, nearest": (EDGES, None, {"cut": 1.0, "min_size": 10, "grow": "nearest"}),
    "cut 1.5, flooded": (EDGES, None, {"cut": 1.5, "min_size": 10}),
    "cut 2, flooded": (EDGES, None, {"cut": 2.0, "min_size": 10}),
    "cut 3, flooded": (EDGES, None, {"cut": 3.0, "min_size": 10}),
}


def mean_ap(layers, labels):
    """Return the mean of TP / (TP + FP + FN) over IoU thresholds from 0.5 to 0.95."""
    scores = score_instances(layers, labels[None], ndim=2, centre_lines="skip")
    return scores["confusion_matrix"]["avS10"]


def decode(layers, edges, width, values):
    """Return the instances that perfect predictions of some targets give."""
    targets = make_targets(layers, (1, 1), edges=edges, wall_width=width)
    depth = np.concatenate([[0], edges]).astype(np.float32)[targets.levels]
    evidence = Evidence(depth, (targets.classes > 0).astype(np.float32), targets.directions)
    return find_instances(evidence, LabelSettings(**values), (1, 1))[0]


def ceilings(kind, seeds, overlaps):
    """Return the mean score of each decoding, and of the truth painted without overlaps."""
    rows = {"painted": []} | {name: [] for name in ROWS}
    for seed in range(seeds):
        layers = as_layers(draw_cells(kind, seed, overlaps=overlaps), SHAPE)
        rows["painted"].append(mean_ap(layers, paint(layers).labels))
        for name, how in ROWS.items():
            rows[name].append(mean_ap(layers, decode(layers, *how)))
    return {name: float(np.mean(values)) for name, values in rows.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="cells that do not overlap")
    found = parser.parse_args()
    table = {kind: ceilings(kind, found.seeds, not found.apart) for kind in TYPES}
    print(f"| decoding | {' | '.join(TYPES)} |\n|---|{'---|' * len(TYPES)}")
    for name in table["cort"]:
        print(f"| {name} | {' | '.join(f'{table[kind][name]:.3f}' for kind in TYPES)} |")


if __name__ == "__main__":
    main()
