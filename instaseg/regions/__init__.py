"""Regions of arrays: distances, morphology, thresholds, flooding."""
