"""A running average of weights, which predicts better than the last weights do."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of a network's weights and buffers.

    Parameters
    ----------
    network : Module
        The network that is trained.
    decay : float
        Share of the old average that stays at each update; 0 keeps no average, and
        :attr:`network` is the trained network itself.

    Notes
    -----
    Early on the decay is ``(1 + i) / (10 + i)`` after ``i`` updates, if that is less, so that the
    random weights of the beginning are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._trained = network
        self._decay = decay
        self.network = network if decay == 0 else copy.deepcopy(network)
        """The network with the averaged weights."""

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move the average towards the trained weights.

        Parameters
        ----------
        updates : int
            Number of updates before this one.
        """
        if self.network is self._trained:
            return
        decay = min(self._decay, (1 + updates) / (10 + updates))
        trained = self._trained.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(trained[name], 1.0 - decay)
            else:
                average.copy_(trained[name])
