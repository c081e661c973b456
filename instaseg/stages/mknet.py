"""``--do mknet``: the network in numbers and words."""

from __future__ import annotations

from instaseg.io.text import to_toml, write_text
from instaseg.models.summary import (
    count_parameters,
    estimate_memory,
    output_shapes,
    summary,
)
from instaseg.stages.context import Context
from instaseg.stages.networks import untrained_network

GIB = 2**30


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
    folder = context.experiment.network_folder
    write_text(folder / "network.toml", to_toml(facts))
    text = summary(network, dict(shapes), batch_size=batch)
    write_text(folder / "network.txt", text)
    return (
        f"network: {facts['parameters']:,} parameters, about {memory['training'] / GIB:.2f} GiB to"
        f" train with batches of {batch} ({folder / 'network.txt'})"
    )
