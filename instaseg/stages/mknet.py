"""``--do mknet``: the network in numbers and words."""

from __future__ import annotations

import logging

from instaseg.inference.tiling import tile_with_share, written_share
from instaseg.io.text import to_toml, write_text
from instaseg.models.config import ModelSettings
from instaseg.models.summary import (
    count_parameters,
    estimate_memory,
    output_shapes,
    summary,
)
from instaseg.stages.context import Context
from instaseg.stages.networks import untrained_network

GIB = 2**30
LEAST_WRITTEN = 0.25
"""Share of a tile below which a larger one is advised."""

logger = logging.getLogger(__name__)


def run(context: Context) -> str:
    """Build the network; write shapes, parameters and memory (.toml) and its layers (.txt)."""
    config, network = context.config, untrained_network(context)
    channels = config.data.num_channels
    shapes = {
        "training": (channels, *config.model.train_input_shape),
        "prediction": (channels, *config.model.test_input_shape),
    }
    batch = config.training.batch_size
    memory = {
        "training": estimate_memory(network, shapes["training"], batch_size=batch).training,
        "prediction": estimate_memory(network, shapes["prediction"]).prediction,
    }
    facts = {
        "parameters": count_parameters(network),
        **{
            purpose: {
                "input_shape": list(shape),
                "output_shapes": {
                    name: list(output[1:]) for name, output in output_shapes(network, shape).items()
                },
                "memory_gib": round(memory[purpose] / GIB, 3),
            }
            for purpose, shape in shapes.items()
        },
    }
    _warn_of_halo(config.model)
    folder = context.experiment.network_folder
    write_text(folder / "network.toml", to_toml(facts))
    text = summary(network, dict(shapes), batch_size=batch)
    write_text(folder / "network.txt", text)
    return (
        f"network: {facts['parameters']:,} parameters, about {memory['training'] / GIB:.2f} GiB to"
        f" train with batches of {batch} ({folder / 'network.txt'})"
    )


def _warn_of_halo(model: ModelSettings) -> None:
    """Say where prediction computes each voxel many times, because tiles are mostly halo."""
    share = written_share(model)
    if model.padding == "same" and share < LEAST_WRITTEN:
        logger.warning(
            "model.test_input_shape = %s: of a tile of an image larger than that only %.1f %% is"
            " written, the rest is what the network sees around it; with %s it would be %.0f %%",
            list(model.test_input_shape),
            100 * share,
            list(tile_with_share(model, LEAST_WRITTEN)),
            100 * LEAST_WRITTEN,
        )
