"""``--do cleanup``: predictions that are no longer needed."""

from __future__ import annotations

import glob
import logging
import shutil
from pathlib import Path

from instaseg.io.arrays import has_array, stored_size
from instaseg.run.experiment import Experiment
from instaseg.stages.context import Context
from instaseg.stages.results.table import RESULTS

logger = logging.getLogger(__name__)

MIB = 2**20


def run(context: Context) -> str:
    """Delete predictions whose instances or scores exist, after saying how large they are."""
    experiment = context.experiment
    found = sorted(experiment.folder.glob("*/predicted/*/*.zarr"))
    spent = [path for path in found if _is_spent(experiment, path)]
    sizes = {path: stored_size(path) for path in spent}
    for path, size in sizes.items():
        logger.info("delete %9.1f MiB  %s", size / MIB, path.relative_to(experiment.folder))
    for path in _leftovers(experiment):
        shutil.rmtree(path)
    for path in [_put_aside(path) for path in spent]:
        shutil.rmtree(path)
    kept = len(found) - len(spent)
    return (
        f"cleanup: {len(spent)} predictions deleted, {sum(sizes.values()) / MIB:.1f} MiB;"
        f" {kept} kept because nothing was made from them yet"
    )


def _put_aside(prediction: Path) -> Path:
    """Rename a prediction: deleted halfway, the rest must not look like a whole one."""
    return prediction.rename(prediction.with_name(f".{prediction.name}.deleted"))


def _leftovers(experiment: Experiment) -> list[Path]:
    """Return what an earlier run was killed in deleting, and what it would have deleted."""
    scratch = experiment.folder.glob("*/evaluated/**/*.zarr")  # of results while they are scored
    return [*experiment.folder.glob("*/predicted/*/.*.deleted"), *scratch]


def _is_spent(experiment: Experiment, prediction: Path) -> bool:
    """Return whether a result or validation scores were made from a prediction."""
    checkpoint, sample = prediction.parent.name, glob.escape(prediction.stem)
    dataset = experiment.folder / prediction.relative_to(experiment.folder).parts[0]
    instances = (dataset / "instances" / checkpoint).glob(f"*/{sample}.zarr")
    scores = (dataset / "evaluated" / checkpoint).glob(f"*/{sample}.toml")
    keys = [kind.key for kind in RESULTS.values()]
    return any(has_array(path, key) for path in instances for key in keys) or any(scores)
