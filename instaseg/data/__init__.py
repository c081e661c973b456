"""Training data: checks, normalisation, sampling of crops, augmentation."""
