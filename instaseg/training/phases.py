"""Parts of a training that follow each other: what is trained in each, and when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from instaseg.errors import ConfigError

if TYPE_CHECKING:
    from instaseg.training.config import PhasesSettings


@dataclass(frozen=True)
class Phase:
    """One part of a training.

    Parameters
    ----------
    name : str
        For messages and checkpoints.
    begin, end : float
        Share of the budget that is used up when it begins and when it ends.
    train : tuple of str
        Modules of the network, by dotted name, whose weights change; all if empty.
    losses : tuple of str
        Outputs that are computed and count in the loss; all if empty.
    truth : tuple of str
        Targets that the network is given in place of what it predicts itself.
    rate : float
        Factor on the learning rate.
    """

    name: str = "all"
    begin: float = 0.0
    end: float = 1.0
    train: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()
    rate: float = 1.0

    def used(self, of_budget: float) -> float:
        """Return the share of the phase that is over when that share of the budget is used up."""
        return max(0.0, (of_budget - self.begin) / (self.end - self.begin))

    def arguments(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what a network that knows phases is given beside the image."""
        given: dict[str, Any] = {"truth": {name: batch[name] for name in self.truth}}
        return given | ({"wanted": self.losses} if self.losses else {})

    def counted(self, outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the outputs that count in the loss."""
        if not self.losses:
            return outputs
        return {name: outputs[name] for name in self.losses}


def all_phases(settings: PhasesSettings) -> tuple[Phase, ...]:
    """Return the phases of a training in their order; one for all of it where none is named."""
    return tuple(_phases(settings)) if settings.names else (Phase(),)


def _phases(settings: PhasesSettings) -> Iterator[Phase]:
    total, done = sum(settings.shares), 0.0
    for number, name in enumerate(settings.names):
        begin, done = done / total, done + settings.shares[number]
        last = number + 1 == len(settings.names)
        yield Phase(
            name=name,
            begin=begin,
            end=1.0 if last else done / total,
            train=settings.train[number] if settings.train else (),
            losses=settings.losses[number] if settings.losses else (),
            truth=settings.truth[number] if settings.truth else (),
            rate=settings.rates[number] if settings.rates else 1.0,
        )


def phase_at(phases: tuple[Phase, ...], used: float) -> Phase:
    """Return the phase that is on when a share of the budget is used up; at its end the last."""
    return next((phase for phase in phases if used < phase.end), phases[-1])


def trainable(network: nn.Module) -> tuple[nn.Parameter, ...]:
    """Return the weights that are not frozen for the whole training, before any phase begins."""
    return tuple(weight for weight in network.parameters() if weight.requires_grad)


def select_trained(network: nn.Module, phase: Phase, *, among: Iterable[nn.Parameter]) -> None:
    """Let the weights of a phase's modules be trained, and no others.

    Parameters
    ----------
    network : Module
        All of it.
    phase : Phase
        Names the modules.
    among : iterable of Parameter
        From :func:`trainable`; others stay as they are in all phases.

    Raises
    ------
    ConfigError
        If the network has no such module.
    """
    chosen = {id(weight) for module in _trained(network, phase) for weight in module.parameters()}
    for weight in among:
        weight.requires_grad_(not phase.train or id(weight) in chosen)
        weight.grad = None  # one left over would count when gradients are clipped


def set_training(network: nn.Module, phase: Phase) -> None:
    """Put a phase's modules into training mode, and the others into that of prediction.

    Dropout and running means of normalisation so stay still in what is not trained.
    """
    network.train()
    if phase.train:
        for module in network.children():
            module.eval()
        for module in _trained(network, phase):
            module.train()


def _trained(network: nn.Module, phase: Phase) -> Iterator[nn.Module]:
    modules = dict(network.named_modules())
    for name in phase.train:
        if name not in modules:
            there = ", ".join(key for key in modules if key and "." not in key)
            raise ConfigError(
                f"[training.phases] train: expected modules of the network in phase {phase.name!r},"
                f" found {name!r}; there are {there}, and dotted names of what is in them"
            )
        yield modules[name]
