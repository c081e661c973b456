"""The running average, worked out by hand."""

import pytest
import torch
from torch import nn

from instaseg.training.averaging import WeightAverage


def _network(value):
    network = nn.BatchNorm1d(1)
    nn.init.constant_(network.weight, value)
    return network


def test_average_of_weights_and_buffers():
    network = _network(0.0)
    average = WeightAverage(network, decay=0.15)
    nn.init.constant_(network.weight, 1.0)
    network.running_mean.fill_(10.0)
    network.num_batches_tracked.fill_(7)
    average.update(0)
    # First decay: (1 + 0) / (10 + 0) = 0.1; the average is 0.1 * 0 + 0.9 * 1.
    assert average.network.weight.item() == pytest.approx(0.9)
    assert average.network.running_mean.item() == pytest.approx(9.0)
    assert average.network.num_batches_tracked.item() == 7
    average.update(100)
    # Now 0.15 is less than 101 / 110.
    assert average.network.weight.item() == pytest.approx(0.15 * 0.9 + 0.85)
    assert network.weight.item() == 1.0


def test_without_decay_it_is_the_network_itself():
    network = _network(1.0)
    average = WeightAverage(network, decay=0)
    average.update(0)
    assert average.network is network
    assert isinstance(average.network.weight, torch.nn.Parameter)
