"""From checkpoints to predictions of whole images."""
