"""Deep watershed: voxels predict how deep inside their instance they lie; a cut separates them."""
