"""Pictures of crops show the crop, at the place where it was taken."""

import numpy as np
import pytest

from instaseg.data.config import SamplingSettings
from instaseg.data.crops import CropImage
from instaseg.data.normalization import Statistics
from instaseg.data.pipeline import CropPipeline
from instaseg.geometry import Box
from instaseg.report.config import VisualizeSettings
from instaseg.stages.sample_pictures import picture

FOREGROUND = SamplingSettings(probability_random=0, probability_fg=1)


def crops(shape, inner, margin):
    """Return an image, a pipeline on it, and the margin of the network."""
    rng = np.random.default_rng(0)
    raw = rng.random((1, *shape)).astype(np.float32)
    labels = (rng.random((1, *shape)) > 0.97).astype(np.int32)
    image = CropImage(raw, labels, None, Statistics((0.0,), (1.0,)), (1.0,) * len(shape))
    begin = tuple(margin)
    output = Box(begin, tuple(b + n for b, n in zip(begin, inner, strict=True)))
    boxes = {"raw": output.grow(margin), "labels": output.grow((1,) * len(shape)), "mask": output}
    return image, CropPipeline([image], boxes, FOREGROUND, None)


@pytest.mark.parametrize(
    ("shape", "inner", "margin"),
    [((30, 40), (8, 12), (2, 3)), ((6, 30, 40), (2, 8, 12), (1, 2, 3))],
)
def test_outline_holds_the_crop(shape, inner, margin):
    image, pipeline = crops(shape, inner, margin)
    for seed in range(5):
        crop = pipeline.draw(seed)
        outline = crop.location.box.grow(margin)
        assert np.array_equal(crop.raw, image.crop_raw(outline))
        voxel = crop.location.voxel
        assert image.labels[(0, *voxel)] == 1
        assert all(
            b <= v < e
            for b, v, e in zip(crop.location.box.begin, voxel, crop.location.box.end, strict=True)
        )
        figure = picture(
            image,
            crop,
            margin=margin,
            context=(1,) * len(shape),
            settings=VisualizeSettings(),
            title="",
        )
        (square,) = figure.axes[0].patches
        assert (square.get_y() + 0.5, square.get_x() + 0.5) == outline.begin[-2:]
        assert (square.get_height(), square.get_width()) == outline.shape[-2:]
        whole, cut, changed = (axes.images[0].get_array() for axes in figure.axes[:3])
        assert whole.shape[:2] == shape[-2:]
        assert np.array_equal(cut, changed)
        assert figure.axes[4].images[0].get_array().shape[:2] == inner[-2:]
