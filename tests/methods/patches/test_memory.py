"""Memory of the assembly grows with the foreground, not with the volume times the pairs."""

import subprocess
import sys

import pytest

MEASURE = """
import resource
import numpy as np
from instaseg.methods.patches import assemble

SIDE, PATCH = 1024, 25
labels = np.zeros((SIDE, SIDE), np.int32)
for number, (y, x) in enumerate(np.ndindex(SIDE // 32, SIDE // 32), start=1):
    labels[32 * y + 6 : 32 * y + 24, 32 * x + 6 : 32 * x + 24] = number  # 18 of 32: 31.6 %
reach = PATCH // 2
padded = np.pad(labels, reach)
affinities = np.empty((PATCH**2, SIDE, SIDE), np.float32)
for k, (i, j) in enumerate(np.ndindex(PATCH, PATCH)):
    same = (padded[i : i + SIDE, j : j + SIDE] == labels) & (labels > 0)
    affinities[k] = np.where(same, 0.9, 0.1)
assert 0.3 < (labels > 0).mean() < 0.33
found = assemble(affinities, labels > 0, patch_shape=(PATCH, PATCH))
assert found.max() == labels.max()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_large_image_with_large_patches_stays_below_4_gib():
    """1024 x 1024, 30 % foreground, 25 x 25 patches, float32 input of 2.4 GiB included."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4
