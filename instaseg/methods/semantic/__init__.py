"""Semantic segmentation: the class of every voxel, from a network's probabilities."""
