"""What test_ranks.py starts twice with torchrun: trains, and notes what each process saw.

Arguments: the folder to work in, and how many crops a batch of one process has.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn.functional import mse_loss

from instaseg.errors import StageError
from instaseg.methods.base import Head
from instaseg.models.config import ModelSettings
from instaseg.models.network import build_network
from instaseg.training.config import OptimizerSettings, TrainingSettings
from instaseg.training.loop import TrainingRun, train
from instaseg.training.ranks import ALONE, joined

FG = Head("fgbg", 1, "sigmoid", "volumes/pred_fgbg")
MODEL = ModelSettings(
    num_fmaps=2,
    downsample_factors=((2, 2),),
    num_repetitions=1,
    normalization="none",
    train_input_shape=(16, 16),
    test_input_shape=(16, 16),
)


def loss(outputs, batch):
    """Give each crop the same weight, so that a mean of halves is the mean of all."""
    part = mse_loss(outputs["fgbg"].float(), batch["raw"][..., 4:12, 4:12])
    return part, {"foreground": part}


def crop(iteration, element):
    random = torch.Generator().manual_seed(1000 * iteration + element)
    return torch.rand(1, 16, 16, generator=random)


def trained(folder, ranks, size, *, iterations=6, broken=()):
    """Train on this process's share of the crops; those that are broken hold NaN."""

    def batches(first):
        while True:
            elements = range(ranks.rank * size, (ranks.rank + 1) * size)
            raw = torch.stack([crop(first, element) for element in elements])
            yield {"raw": raw * torch.nan if (first, ranks.rank) in broken else raw}
            first += 1

    torch.manual_seed(ranks.rank)  # weights of the others are those of the first
    settings = TrainingSettings(
        max_iterations=iterations,
        max_minutes=10,
        schedule="constant",
        warmup=0,
        checkpoints=3,
        log_step=1,
        val_log_step=3,
        snapshots=2,
        weight_averaging=0.9,
        precision="float32",
    )
    run = TrainingRun(
        folder=folder,
        settings=settings,
        optimizer=OptimizerSettings(optimizer="SGD", lr=0.1),
        device=torch.device("cpu"),
        seed=3,
        ranks=ranks,
    )
    network = build_network(MODEL, in_channels=1, ndim=2, heads=[FG])
    written = []
    train(
        network,
        loss,
        run=run,
        batches=batches,
        validation=[{"raw": crop(100, 0)[None]}],
        write_snapshot=lambda iteration, *_: written.append(iteration),
    )
    return written, float(sum(weight.detach().sum() for weight in network.parameters()))


def main(folder, size):
    torch.set_num_threads(1)
    alone = size > 1
    with nullcontext(ALONE) if alone else joined() as ranks:
        seen = {"size": ranks.size, "local": ranks.local}
        seen["snapshots"], seen["weights"] = trained(folder / "whole", ranks, size)
        if not alone:
            trained(folder / "cut", ranks, size, iterations=3)
            trained(folder / "cut", ranks, size)
            try:
                trained(folder / "broken", ranks, size, broken=[(4, 1)])
            except StageError as error:
                seen["error"] = [type(error).__name__, str(error)]
            seen["any"] = ranks.any(ranks.rank == 1), ranks.any(False)
            seen["from first"] = ranks.from_first(["a", "b"][ranks.rank])
        (folder / f"{ranks.rank}.json").write_text(json.dumps(seen))
        ranks.meet()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
