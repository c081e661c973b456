"""``--do sample_pictures``: where training crops are taken, and what augmentation makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from instaseg.data.batches import crop_seed, open_images
from instaseg.data.crops import CropImage, Location
from instaseg.geometry import Box, whole
from instaseg.progress import progress
from instaseg.report.config import VisualizeSettings
from instaseg.report.crops import View, crop_figure, section
from instaseg.report.figures import save_figure
from instaseg.stages.context import Context
from instaseg.stages.train import at_training_size, crop_source
from instaseg.stages.training_data import training_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from instaseg.data.pipeline import Crop


def run(context: Context) -> str:
    """Draw the first crops of the training, each as it is cut and as it is augmented."""
    from instaseg.data.pipeline import CropPipeline

    dataset, _ = at_training_size(context, training_data(context))
    source, training = crop_source(context, dataset), context.config.training
    images, boxes = open_images(source), source.crop.boxes()
    pipeline = CropPipeline(images, boxes, source.sampling, training.augmentation)
    folder, settings = context.experiment.report_folder / "crops", context.config.visualize
    seeds = _seeds(context.config.general.seed, training.batch_size, settings.crops)
    for number, seed in enumerate(progress(list(seeds), "crops")):
        crop = pipeline.draw(seed)
        name = dataset.samples[crop.location.number].name
        figure = picture(
            images[crop.location.number],
            crop,
            margin=boxes["mask"].begin,
            context=source.crop.context,
            settings=settings,
            title=f"{name}, {_place(crop.location)}",
        )
        save_figure(figure, folder / f"{number:03}_{name}.png", dpi=settings.dpi)
    return f"sample_pictures: {settings.crops} crops of {len(images)} samples in {folder}"


def _seeds(seed: int, batch_size: int, count: int) -> Iterator[int]:
    """Yield the seeds of the first crops of the training."""
    for number in range(count):
        yield crop_seed((seed,), *divmod(number, batch_size))


def picture(
    image: CropImage,
    crop: Crop,
    *,
    margin: Sequence[int],
    context: Sequence[int],
    settings: VisualizeSettings,
    title: str,
) -> Figure:
    """Return the picture of one crop.

    Parameters
    ----------
    image : CropImage
        What it was cut from.
    crop : Crop
        As it is learnt from.
    margin : sequence of int
        Voxels that the network reads beyond those it predicts; the outline holds them.
    context : sequence of int
        Voxels of labels around those that are compared; they are cut off.
    settings : VisualizeSettings
        How it looks.
    title : str
        Line above the picture.
    """
    location = crop.location
    outline = location.box.grow(margin)
    space = crop.labels.shape[1:]
    inner = tuple(slice(c, n - c) for c, n in zip(context, space, strict=True))
    return crop_figure(
        _plane(image, location),
        [
            ("crop", section(image.crop_raw(outline), image.crop_labels(location.box))),
            ("augmented", section(crop.raw, crop.labels[(slice(None), *inner)])),
        ],
        box=Box(outline.begin[-2:], outline.end[-2:]),
        voxel=None if location.voxel is None else location.voxel[-2:],
        settings=settings,
        title=title,
    )


def _plane(image: CropImage, location: Location) -> View:
    """Return the plane that holds the chosen voxel, or the middle of the box."""
    box = whole(image.shape)
    if len(image.shape) == 3:
        middle = (location.box.begin[0] + location.box.end[0]) // 2
        z = min(max(middle, 0), image.shape[0] - 1)
        z = z if location.voxel is None else location.voxel[0]
        box = Box((z, 0, 0), (z + 1, *image.shape[1:]))
    return section(image.crop_raw(box), image.crop_labels(box))


def _place(location: Location) -> str:
    """Return in words what a crop was chosen for."""
    if location.voxel is None:
        return "drawn evenly"
    return f"chosen for voxel {', '.join(map(str, location.voxel))}"
