"""An array that behaves like one on disk."""

import pytest


class OnDisk:
    """What a reader of an array has; remembers the largest part that was read."""

    def __init__(self, array, chunks=None):
        self._array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.largest = 0

    def __getitem__(self, index):
        part = self._array[index]
        self.largest = max(self.largest, part.size)
        return part


@pytest.fixture(scope="session")
def on_disk():
    return OnDisk
