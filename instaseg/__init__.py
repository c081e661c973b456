"""Instance segmentation of microscopy images, as a runner of stages and as a library."""

__version__ = "0.1.0"
