"""Boxes of tiles, worked out by hand, and reading beyond the image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instaseg.geometry import Box, grid, identity, plane_rotations_and_flips
from instaseg.inference import tiling
from instaseg.models import shapes
from instaseg.models.config import ModelSettings

# One level, one 3x3 pass: halo 4, step 2, inputs 10, 12, 14 ...
SMALL = ModelSettings(
    num_fmaps=1,
    downsample_factors=((2, 2),),
    num_repetitions=1,
    train_input_shape=(20, 20),
    test_input_shape=(20, 20),
)
ANISOTROPIC = SMALL.model_copy(update={"downsample_factors": ((2, 3),)})


def plain(block):
    return block.astype(np.float32)


def test_image_that_fits_is_one_tile():
    assert shapes.halo(SMALL) == (4, 4)
    assert tiling.tile_shape(SMALL, (12, 5), [identity(2)]) == (12, 5)


def test_larger_image_is_divided_evenly_in_whole_steps():
    """Room for 12: 30 needs three tiles of 10; 13 needs two, of 7, rounded up to 8."""
    assert tiling.tile_shape(SMALL, (30, 13), [identity(2)]) == (10, 8)


def test_turned_tiles_fit_the_steps_of_both_axes():
    """Steps 2 and 3, halos 4 and 5: room min(12, 10), tiles of whole sixes; 20 needs four."""
    assert shapes.halo(ANISOTROPIC) == (4, 5)
    turns = plane_rotations_and_flips(2)
    assert tiling.tile_shape(ANISOTROPIC, (20, 20), turns) == (6, 6)
    assert tiling.tile_shape(ANISOTROPIC, (20, 20), [identity(2)]) == (10, 9)


def test_read_boxes():
    """Write [0, 8) needs [-4, 12); that is a valid input of 16."""
    frame = tiling.frame(SMALL, (8, 5), identity(2))
    assert frame == tiling.Frame(halo=(4, 4), read_shape=(16, 14))
    assert frame.read_box(Box((8, 0), (16, 5))) == Box((4, -4), (20, 10))


def test_read_boxes_of_a_transposed_tile():
    """The network's second axis lies along y: there the halo is 5."""
    transposed = plane_rotations_and_flips(2)[4]
    assert transposed.permutation == (1, 0)
    frame = tiling.frame(ANISOTROPIC, (6, 6), transposed)
    assert frame.halo == (5, 4)
    assert frame.read_shape == shapes.input_shape_for_output(ANISOTROPIC, (6, 6))[::-1]


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    margin=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    tile=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_every_voxel_is_written_once(shape, margin, tile):
    grown = tuple(n + 2 * m for n, m in zip(shape, margin, strict=True))
    written = np.zeros(grown, int)
    for box in grid(tiling.output_box(shape, margin), tile):
        written[box.shift(margin).slices] += 1
    assert (written == 1).all()


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    begin=st.tuples(st.integers(-15, 8), st.integers(-15, 8)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_mirrored_reading_equals_padding(shape, begin, size):
    raw = np.arange(2 * shape[0] * shape[1]).reshape(2, *shape)
    box = Box(begin, tuple(b + n for b, n in zip(begin, size, strict=True)))
    far = 40
    padded = np.pad(raw, ((0, 0), (far, far), (far, far)), mode="reflect")
    expected = padded[(slice(None), *box.shift((far, far)).slices)]
    found = tiling.read_mirrored(raw, box, plain)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_only_what_shows_is_read():
    class Recorder:
        def __init__(self):
            self.shape = (1, 100, 100)
            self.read = []

        def __getitem__(self, index):
            self.read.append(index)
            return np.zeros(tuple(s.stop - s.start for s in index))

    raw = Recorder()
    # Rows -3 to 4 show rows 0 to 4; columns 90 to 104 show columns 90 to 99.
    block = tiling.read_mirrored(raw, Box((-3, 90), (5, 105)), plain)
    assert block.shape == (1, 8, 15)
    assert raw.read == [(slice(0, 1), slice(0, 5), slice(90, 100))]


def test_share_of_a_tile_that_is_written():
    """The network sees `halo` voxels around what it writes, in whole steps."""
    model = ModelSettings(
        num_fmaps=2,
        downsample_factors=((2, 2), (2, 2)),
        padding="same",
        train_input_shape=(64, 64),
        test_input_shape=(128, 64),
    )
    reach, side = shapes.halo(model)[0], shapes.step(model)[0]
    written = [(n - 2 * reach) // side * side for n in (128, 64)]
    assert tiling.written_share(model) == written[0] * written[1] / (128 * 64)
    better = tiling.tile_with_share(model, 0.5)
    shares = [
        tiling.written_share(model.model_copy(update={"test_input_shape": shape}))
        for shape in (better, (better[0] - side, better[1]), (better[0], better[1] - side))
    ]
    assert shares[0] >= 0.5 > min(shares[1:])
    assert tiling.tile_with_share(model, 0.01) == (128, 64)
