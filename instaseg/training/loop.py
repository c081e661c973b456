"""The training loop: from batches to checkpoints.

Iterations are counted from 1; what iteration ``i`` does follows from the state after ``i - 1``, the
seed, and ``i``. A training that was stopped at any moment and goes on from its last checkpoint ends
with the same weights, bit for bit on one machine's CPU, as one that was not (with a budget in
minutes, as far as the time is the same).
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from instaseg.errors import CheckpointError, StageError
from instaseg.training.averaging import WeightAverage
from instaseg.training.checkpoints import (
    Checkpoint,
    check_architecture,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    remove_old_checkpoints,
    save_checkpoint,
)
from instaseg.training.config import OptimizerSettings, TrainingSettings
from instaseg.training.devices import Precision, choose_precision
from instaseg.training.interruption import Interruption
from instaseg.training.logs import TrainingLog
from instaseg.training.phases import (
    Phase,
    all_phases,
    phase_at,
    select_trained,
    set_training,
    trainable,
)
from instaseg.training.progress import Progress
from instaseg.training.ranks import ALONE, PeerError, Ranks
from instaseg.training.schedule import budget_used, learning_rate_factor

logger = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]
Loss = Callable[[Mapping[str, Tensor], Batch], tuple[Tensor, dict[str, Tensor]]]
Batches = Callable[[int], Iterator[Batch]]
Snapshot = Callable[[int, Batch, Mapping[str, Tensor]], None]

_SECONDS_BETWEEN_LINES = 30.0
_SEED_STRIDE = 1_000_003
_RANK_STRIDE = 7_000_000_000_037


@dataclass(frozen=True)
class TrainingRun:
    """What one training is about, beside network and data.

    Parameters
    ----------
    folder : Path
        Gets ``checkpoints/`` and ``logs/``; training goes on from the last checkpoint there.
    settings, optimizer : TrainingSettings, OptimizerSettings
        Tables ``[training]`` and ``[optimizer]``.
    device : torch.device
        Where the network runs.
    seed : int
        Seed of random numbers drawn by the loss; with it and the iteration these are the same.
    config : str
        The resolved configuration as TOML, kept in checkpoints.
    statistics, architecture : mapping
        Kept in checkpoints; the architecture is compared before training goes on.
    ranks : Ranks
        The processes that train together; the first one writes.
    """

    folder: Path
    settings: TrainingSettings
    optimizer: OptimizerSettings
    device: torch.device
    seed: int
    config: str = ""
    statistics: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] = field(default_factory=dict)
    ranks: Ranks = ALONE

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.folder / "checkpoints"

    @property
    def logs(self) -> Path:
        """Folder of ``log.csv`` and TensorBoard's files."""
        return self.folder / "logs"


def train(
    network: nn.Module,
    loss: Loss,
    *,
    run: TrainingRun,
    batches: Batches,
    validation: Sequence[Batch] = (),
    write_snapshot: Snapshot | None = None,
) -> int:
    """Train until the budget is used up, from the last checkpoint if there is one.

    With `patience` it ends earlier when the validation loss does not fall any more.

    Parameters
    ----------
    network : Module
        ``(B, C, [z,] y, x)`` in, a dict of logits by head name out; if it takes ``sites``, it gets
        those of the batch; if it takes ``truth``, it gets targets and the names of heads that are
        ``wanted``, as its phase says.
    loss : callable
        ``loss(outputs, batch)`` gives a scalar and its named parts. Outputs have the numbers of
        the precision in use (16 bits, perhaps); the loss decides what it computes in float32.
    run : TrainingRun
        Folder, settings, device, seed.
    batches : callable
        ``batches(n)`` yields the batches of iterations ``n + 1``, ``n + 2`` ...: dicts of tensors
        with ``raw`` ``(B, C, [z,] y, x)``; what it yields depends on the number alone, and on the
        rank where several processes train.
    validation : sequence of dict of Tensor
        Batches for the validation loss.
    write_snapshot : callable, optional
        Given iteration, batch and outputs, every `snapshots` iterations.

    Returns
    -------
    int
        Iterations done, over all runs.

    Raises
    ------
    StageError
        If the loss is no longer finite, or the batches end.
    CheckpointError
        If the last checkpoint is damaged or of another architecture, or a new one cannot be
        written.
    KeyboardInterrupt
        After SIGINT or SIGTERM, when a checkpoint has been saved.
    """
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trainer = _Trainer(network, loss, run)
        while not trainer.ended:
            _Loop(trainer, validation, write_snapshot).run(batches)
            trainer.enter_next_phase()
        return trainer.iteration


class _Trainer:
    """The state of a training, and one step of it."""

    def __init__(self, network: nn.Module, loss: Loss, run: TrainingRun) -> None:
        self.run = run
        self.loss = loss
        taken = inspect.signature(network.forward).parameters
        self._takes_sites, self._takes_truth = "sites" in taken, "truth" in taken
        self.phases = all_phases(run.settings.phases)
        self._trainable = trainable(network)
        for phase in self.phases:  # finds names that are none before any work
            select_trained(network, phase, among=self._trainable)
        settings = run.settings
        self.precision: Precision = choose_precision(
            settings.precision, run.device, memory_format=settings.memory_format
        )
        self.network = network.to(run.device)
        run.ranks.copy_from_first(network.state_dict().values())
        self._forward, self._compiling = _compiled(network, settings)
        self.average = WeightAverage(network, settings.weight_averaging)
        self.phase = self.phases[0]
        self._phase_begin = 0
        self._begin_phase()
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=self.precision.needs_scaling)
        self.iteration = 0
        self.progress = Progress()
        self._seconds_before = 0.0
        self._start = time.perf_counter()
        if list_checkpoints(run.checkpoints):
            self._resume()
        for part in {self.network, self.average.network}:
            _arrange_weights(part, self.precision)
        self.used = 0.0
        """Share of the budget that was used up after the last iteration."""
        self._look_at_the_clock()
        if phase_at(self.phases, self.used) is not self.phase:
            self.enter_next_phase()

    def _begin_phase(self) -> None:
        """Choose what is trained; the optimizer begins anew."""
        select_trained(self.network, self.phase, among=self._trainable)
        self.optimizer = _build_optimizer(self.network, self.run.optimizer, self.run.device)

    def enter_next_phase(self) -> None:
        """Go on to the phase that the clock says, from the averaged weights; nothing at the end."""
        if self.ended:
            return
        self.phase = phase_at(self.phases, self.used)
        self._phase_begin = self.iteration
        self.progress = Progress()
        self.network.load_state_dict(self.average.network.state_dict())
        self._begin_phase()
        logger.info("training: iteration %d, phase %s begins", self.iteration, self.phase.name)

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self.run.checkpoints)
        where = str(checkpoint_path(self.run.checkpoints, checkpoint.iteration))
        check_architecture(checkpoint.architecture, self.run.architecture, where)
        # The average first: without one it is the same network.
        load_weights(self.average.network, checkpoint.averaged_weights, where)
        load_weights(self.network, checkpoint.weights, where)
        found, expected = checkpoint.optimizer["name"], self.run.optimizer.optimizer
        if found != expected:
            raise CheckpointError(
                f"{where}: expected the state of {expected} because of optimizer.optimizer, found"
                f" that of {found}; set it back, or train a new experiment"
            )
        self._resume_phase(checkpoint, where)
        # Only averages come from the checkpoint: rates and decays are as configured now.
        groups = self.optimizer.state_dict()["param_groups"]
        state = {"state": checkpoint.optimizer["state"], "param_groups": groups}
        self.optimizer.load_state_dict(state)
        if checkpoint.scaler and self.precision.needs_scaling:
            self.scaler.load_state_dict(checkpoint.scaler)
        self.iteration = checkpoint.iteration
        self.progress = Progress(**checkpoint.progress)  # type: ignore[arg-type]
        self._seconds_before = checkpoint.seconds
        logger.info("training goes on from %s", where)

    def _resume_phase(self, checkpoint: Checkpoint, where: str) -> None:
        """Go on with the phase of a checkpoint."""
        name = checkpoint.phase.get("name", Phase().name)
        found = [phase for phase in self.phases if phase.name == name]
        if not found:
            names = ", ".join(phase.name for phase in self.phases)
            raise CheckpointError(
                f"{where}: expected a phase of [training.phases] ({names}), found {name}; set them"
                " back, or train a new experiment"
            )
        self.phase = found[0]
        self._phase_begin = checkpoint.phase.get("begin", 0)
        self._begin_phase()

    @property
    def seconds(self) -> float:
        """Time trained, over all runs."""
        return self._seconds_before + time.perf_counter() - self._start

    @property
    def ended(self) -> bool:
        """Whether the budget is used up, or the validation loss has not fallen for long enough."""
        return self.used >= 1.0 or self.progress.at_an_end(self.run.settings)

    @property
    def phase_ended(self) -> bool:
        """Whether the phase's share of the budget is used up, or the training has ended."""
        return self.ended or self.used >= self.phase.end

    def _look_at_the_clock(self) -> None:
        used = budget_used(self.run.settings, self.iteration, self.seconds)
        # Clocks differ; processes must agree on the learning rate and on the end.
        self.used = used if self.run.settings.max_minutes is None else self.run.ranks.largest(used)

    def step(self, batch: Batch) -> tuple[dict[str, float], Mapping[str, Tensor]]:
        """Do one iteration; return its numbers and the network's outputs.

        With sites, these lack the heads that were evaluated at chosen voxels only.
        """
        seed = self.run.seed * _SEED_STRIDE + self.iteration + self.run.ranks.rank * _RANK_STRIDE
        torch.manual_seed(seed % 2**63)
        factor = learning_rate_factor(self.run.settings, self.phase.used(self.used))
        factor *= self.phase.rate * self.progress.rate_factor(self.run.settings)
        rate = self.run.optimizer.lr * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        set_training(self.network, self.phase)
        batch = _to_device(batch, self.run.device)
        with self._compiling():
            outputs, total, parts = self._evaluate(self._forward, batch)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(self.scaler.scale(total))
        # Before the loss's scale is taken off: what overflows in one process does so in all.
        self._average_gradients()
        self.scaler.unscale_(self.optimizer)
        limit = self.run.settings.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        values = {"loss": total, **_prefixed(parts), "gradient_norm": norm}
        numbers = self._as_numbers(values)
        self._check_finite(batch, numbers)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update(self.iteration - self._phase_begin)
        self.iteration += 1
        self._look_at_the_clock()
        return {"learning_rate": rate, **numbers}, outputs

    def _average_gradients(self) -> None:
        """Give the weights of all processes the mean of their gradients."""
        if self.run.ranks.alone:
            return
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        for weight in weights:
            if weight.grad is None:
                # Perhaps only this process's crops had nothing to learn it from.
                weight.grad = torch.zeros_like(weight)
        self.run.ranks.mean([weight.grad for weight in weights if weight.grad is not None])

    def _as_numbers(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return values, averaged over all processes; a device is waited for only once."""
        together = torch.stack([value.detach().double() for value in values.values()])
        self.run.ranks.mean([together])
        return dict(zip(values, together.tolist(), strict=True))

    @torch.no_grad()
    def look(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return all outputs for the first crop of a batch."""
        self.network.eval()
        image = batch["raw"][:1].to(self.run.device)
        with self.precision.autocast(self.run.device):
            outputs: Mapping[str, Tensor] = self.network(self.precision.arrange(image))
        return outputs

    @torch.no_grad()
    def validate(self, validation: Sequence[Batch]) -> dict[str, float]:
        """Return the mean loss of batches, and its parts, with the averaged weights."""
        torch.manual_seed(self.run.seed)
        self.average.network.eval()
        sums: dict[str, float] = {}
        for batch in validation:
            on_device = _to_device(batch, self.run.device)
            _, total, parts = self._evaluate(self.average.network, on_device)
            for name, value in {"loss": total, **_prefixed(parts)}.items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(validation)
        return {f"validation_{name}": value for name, value in sums.items()}

    def save(self) -> None:
        """Write a checkpoint, then delete those that are no longer kept."""
        state = self.optimizer.state_dict()["state"]
        save_checkpoint(
            self.run.checkpoints,
            Checkpoint(
                iteration=self.iteration,
                seconds=self.seconds,
                weights=dict(self.network.state_dict()),
                averaged_weights=dict(self.average.network.state_dict()),
                optimizer={"name": self.run.optimizer.optimizer, "state": state},
                scaler=self.scaler.state_dict(),
                config=self.run.config,
                statistics=dict(self.run.statistics),
                architecture=dict(self.run.architecture),
                progress=self.progress.to_dict(),
                phase={"name": self.phase.name, "begin": self._phase_begin},
            ),
        )
        settings = self.run.settings
        remove_old_checkpoints(
            self.run.checkpoints, keep=settings.keep_checkpoints, keep_every=settings.keep_every
        )

    def _evaluate(
        self, network: Callable[..., Any], batch: Batch
    ) -> tuple[Mapping[str, Tensor], Tensor, dict[str, Tensor]]:
        with self.precision.autocast(self.run.device):
            image = self.precision.arrange(batch["raw"])
            if self._takes_truth:
                outputs = network(image, **self.phase.arguments(batch))
            else:
                sampled = self._takes_sites and "sites" in batch
                outputs = network(image, batch["sites"]) if sampled else network(image)
        total, parts = self.loss(self.phase.counted(outputs), batch)
        return outputs, total, parts

    def _check_finite(self, batch: Batch, numbers: Mapping[str, float]) -> None:
        """Stop before a step with a loss or a gradient that is no number."""
        names = {name: name.removeprefix("loss_") for name in numbers if name.startswith("loss_")}
        names["loss"] = "the sum"
        if not self.precision.needs_scaling:
            # With a scaled loss gradients may overflow: that step is left out and the scale cut.
            names["gradient_norm"] = "the gradient's norm"
        wrong = [name for name in names if not math.isfinite(numbers[name])]
        if not wrong:
            return
        bad_images = self.run.ranks.any(not bool(torch.isfinite(batch["raw"]).all()))
        if not self.run.ranks.first:
            raise PeerError("training: the loss is not finite, as the first process says")
        there = list_checkpoints(self.run.checkpoints)
        kept = f"the last checkpoint, of iteration {there[-1]}, is good" if there else "none saved"
        advice = (
            "set optimizer.lr lower than"
            f" {self.run.optimizer.lr:g}, training.gradient_clip lower, or training.precision ="
            ' "float32"'
        )
        if bad_images:
            advice = "the batch's raw data hold NaN or infinity: mend the images"
        raise StageError(
            f"training, iteration {self.iteration + 1}: expected a finite loss, found"
            f" {numbers[wrong[0]]} in {names[wrong[0]]} ({kept}); {advice}"
        )


def _prefixed(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"loss_{name}": part for name, part in parts.items()}


class _Loop:
    """What happens around the steps: logs, validation, snapshots, checkpoints, interruption."""

    def __init__(
        self, trainer: _Trainer, validation: Sequence[Batch], write_snapshot: Snapshot | None
    ) -> None:
        self._trainer = trainer
        self._settings = trainer.run.settings
        self._ranks = trainer.run.ranks
        self._validation = validation if self._ranks.first else ()
        self._write_snapshot = write_snapshot if self._ranks.first else None
        self._recent: list[dict[str, float]] = []
        self._saved = (trainer.iteration, False)
        self._last_line = time.perf_counter()

    def run(self, batches: Batches) -> None:
        """Step through batches until the budget is used up."""
        trainer = self._trainer
        stream = batches(trainer.iteration)
        timed = self._settings.max_minutes is not None
        total = None if timed else self._settings.max_iterations
        try:
            with (
                Interruption("at once" if self._ranks.alone else "never") as interruption,
                self._open_log() as log,
                tqdm(
                    desc="train",
                    initial=trainer.iteration,
                    total=total,
                    disable=None if self._ranks.first else True,
                    leave=False,
                ) as bar,
            ):
                while not trainer.phase_ended:
                    batch = _next_batch(stream, interruption, trainer.iteration)
                    stop = self._ranks.any(batch is None or interruption.requested)
                    if batch is None or stop:
                        self._stop()
                    else:
                        self._advance(batch, log, bar)
                self._save()
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()

    def _open_log(self) -> TrainingLog | nullcontext[None]:
        run = self._trainer.run
        return TrainingLog(run.logs, self._trainer.iteration) if run.ranks.first else nullcontext()

    def _advance(self, batch: Batch, log: TrainingLog | None, bar: tqdm[Any]) -> None:
        trainer, settings = self._trainer, self._settings
        numbers, outputs = trainer.step(batch)
        self._recent.append(numbers)
        number = trainer.iteration
        bar.update()
        bar.set_postfix(loss=f"{numbers['loss']:.4f}", refresh=False)
        validated = _is_due(number, settings.val_log_step) and bool(self._validation)
        losses = trainer.validate(self._validation) if validated else {}
        if settings.watches_validation and _is_due(number, settings.val_log_step):
            self._watch(losses)
        if validated or _is_due(number, settings.log_step) or trainer.phase_ended:
            self._log(log, losses)
        if self._write_snapshot is not None and _is_due(number, settings.snapshots):
            partial = "sites" in batch or trainer.phase.losses
            seen = trainer.look(batch) if partial else outputs
            self._write_snapshot(number, batch, seen)
        if _is_due(number, settings.checkpoints):
            self._save()
        if (
            self._ranks.first
            and bar.disable
            and time.perf_counter() - self._last_line > _SECONDS_BETWEEN_LINES
        ):
            self._last_line = time.perf_counter()
            logger.info(
                "training: iteration %d, %.0f %% of the budget, loss %.4f",
                number,
                100 * trainer.used,
                numbers["loss"],
            )

    def _watch(self, losses: Mapping[str, float]) -> None:
        """Note a validation loss; all processes follow the first one, which has computed it."""
        trainer, settings = self._trainer, self._settings
        before = trainer.progress
        if losses:
            trainer.progress = before.after(losses["validation_loss"], trainer.iteration, settings)
        trainer.progress = self._ranks.from_first(trainer.progress)
        if trainer.progress.reductions > before.reductions:
            logger.info("training: iteration %d, learning rate reduced", trainer.iteration)
        if trainer.progress.at_an_end(settings):
            logger.info(
                "training ends early at iteration %d: no validation loss below %.4f, that of"
                " iteration %d, in %d evaluations (training.patience)",
                trainer.iteration,
                trainer.progress.lowest,
                trainer.progress.iteration,
                trainer.progress.waited,
            )

    def _log(self, log: TrainingLog | None, validated: Mapping[str, float]) -> None:
        if log is None:
            return
        names = self._recent[0]
        means = {name: sum(row[name] for row in self._recent) / len(self._recent) for name in names}
        row = {"iteration": self._trainer.iteration, "seconds": self._trainer.seconds, **means}
        columns = dict(row)
        if self._validation and self._settings.val_log_step:
            losses = [name for name in names if name.startswith("loss")]
            columns |= {f"validation_{name}": 0.0 for name in losses}
        log.write({**row, **validated}, columns)
        self._recent = []

    def _save(self) -> None:
        # With a budget in minutes, one saved just before the end would ask for one more iteration.
        state = (self._trainer.iteration, self._trainer.ended)
        if self._saved != state and self._ranks.first:
            self._trainer.save()
            self._saved = state

    def _stop(self) -> None:
        self._save()
        if self._trainer.iteration and self._ranks.first:
            logger.info("training interrupted; iteration %d is saved", self._trainer.iteration)
        raise KeyboardInterrupt


def _is_due(iteration: int, every: int) -> bool:
    return every > 0 and iteration % every == 0


def _next_batch(
    stream: Iterator[Batch], interruption: Interruption, iteration: int
) -> Batch | None:
    """Return the next batch, None if the wait for it was interrupted."""
    try:
        return next(stream)
    except KeyboardInterrupt:
        return None
    except StopIteration as error:
        raise StageError(
            f"training, iteration {iteration + 1}: expected a batch, found the end of the data; the"
            " loader must go on for ever"
        ) from error
    except Exception:
        # The signal also ends processes that load data, which then looks like their failure.
        if interruption.requested:
            return None
        raise


def _build_optimizer(
    network: nn.Module, settings: OptimizerSettings, device: torch.device
) -> torch.optim.Optimizer:
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    fused = device.type in ("cpu", "cuda")
    decay = settings.weight_decay
    match settings.optimizer:
        case "Adam":
            return torch.optim.Adam(
                weights, settings.lr, betas=settings.betas, weight_decay=decay, fused=fused
            )
        case "AdamW":
            return torch.optim.AdamW(
                weights, settings.lr, betas=settings.betas, weight_decay=decay, fused=fused
            )
        case "SGD":
            return torch.optim.SGD(
                weights, settings.lr, momentum=settings.momentum, weight_decay=decay, fused=fused
            )


def _arrange_weights(network: nn.Module, precision: Precision) -> None:
    """Order the weights of convolutions in memory as their inputs are."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            order = precision.format_for(module.weight.ndim - 2)
            module.weight.data = module.weight.data.contiguous(memory_format=order)


def _to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Return a batch on the device; a GPU copies locked memory while it computes."""
    if device.type == "cuda":
        batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _compiled(
    network: nn.Module, settings: TrainingSettings
) -> tuple[Callable[..., Any], Callable[[], AbstractContextManager[None]]]:
    """Return what applies the network, and a context for its use.

    A compiled network has the same weights; compiling happens at its first use.
    """
    if settings.compile == "off":
        return network, nullcontext
    return torch.compile(network, mode=settings.compile), _compiler_errors


@contextmanager
def _compiler_errors() -> Iterator[None]:
    """Say in one line that torch's compiler has failed."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
        raise StageError(
            f'training.compile: torch could not compile the network ({reason}); set it to "off",'
            " or install what torch.compile needs: a C++ compiler, and triton for a GPU"
        ) from error
