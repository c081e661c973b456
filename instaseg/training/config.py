"""Tables ``[training]`` and ``[optimizer]``. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from instaseg.data.config import AugmentationSettings, SamplingSettings
from instaseg.settings import Table

REMOVED_KEYS: dict[str, str] = {
    "training.num_gpus": "start with torchrun --nproc-per-node=N run_ppp.py --do train ...",
    "training.cache_size": "loader processes are set by training.num_workers; remove it",
    "training.profiling": "loss and rate are shown and logged as training goes; remove it",
    "training.len_epoch": "training counts iterations, not epochs; remove it",
    "training.use_auto_mixed_precision": 'use training.precision = "auto" or "float32"',
    "training.add_affinities": "targets are cut from the labels in the loss; remove it",
    "training.mask_bg_weight": "use method.mask_bg_weight",
    "training.use_gt_extra": "targets come from the labels alone; remove it",
    "training.init_ssl": "networks start from random weights; remove it",
    "training.loss": "the loss belongs to the method; remove it",
    "training.auxiliary_task": "heads belong to the method; remove it",
    "training.code_loss": "decoded patches are compared by cross entropy; remove it",
    "training.num_code_samples": "use method.code.patches_per_crop",
    "optimizer.optimizer.lr": "its keys stand in [optimizer] itself: optimizer and lr",
    "optimizer.lr_scheduler": "use training.schedule and training.warmup",
}

Share = Annotated[float, Field(ge=0, lt=1)]


class PhasesSettings(Table):
    """Parts of a training that follow each other, each with a list entry in the keys below.

    Each begins with the averaged weights that the one before ended with, with a fresh optimizer and
    the whole course of the learning rate, and ends with a checkpoint. Without names there is one
    phase, which trains everything.
    """

    names: tuple[str, ...] = ()
    """Names of the phases in their order, for messages and checkpoints."""
    shares: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Share of the budget of each phase; only their proportions count."""
    train: tuple[tuple[str, ...], ...] = ()
    """Modules of the network whose weights each phase trains, by dotted name; `[]` is all. Left
    out, every phase trains all."""
    losses: tuple[tuple[str, ...], ...] = ()
    """Heads whose losses count in each phase; `[]` is all, as where the key is left out. A network
    that knows phases computes no others."""
    truth: tuple[tuple[str, ...], ...] = ()
    """Targets that the network is given in each phase in place of what it would predict for a later
    part of itself; for networks that know phases. Left out, none."""
    rates: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Factor on `optimizer.lr` in each phase; left out, 1."""

    @model_validator(mode="after")
    def _lists_fit(self) -> Self:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names must be different; got {list(self.names)}")
        lengths = {key: len(value) for key, value in self if key != "names"}
        wrong = {
            key: length
            for key, length in lengths.items()
            if length != len(self.names) and (length or key == "shares")
        }
        if wrong:
            found = ", ".join(f"{length} in {key}" for key, length in wrong.items())
            raise ValueError(
                f"lists must have one entry for each of the {len(self.names)} names; got {found}"
            )
        return self


class TrainingSettings(Table):
    """How long and how the network is trained."""

    batch_size: int = Field(default=4, ge=1)
    """Crops in a batch; memory and time of an iteration grow in proportion."""
    max_iterations: int = Field(default=100_000, ge=1)
    """Iterations after which training ends."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Minutes of training, earlier runs of the experiment included, after which it ends if it has
    not reached `max_iterations`; the learning rate's schedule fits whichever comes first."""
    num_workers: int = Field(default=1, ge=0)
    """Processes that load and augment crops; 0 does it in the main process, with equal results."""
    checkpoints: int = Field(default=5_000, ge=1)
    """Iterations between two checkpoints; a run that is killed loses at most as many."""
    keep_checkpoints: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    """How many of the latest checkpoints are kept, or `all`."""
    keep_every: int = Field(default=0, ge=0)
    """Checkpoints whose iteration is a multiple of this are kept however old they are; 0 keeps no
    more than `keep_checkpoints` says."""
    snapshots: int = Field(default=10_000, ge=0)
    """Iterations between two snapshots (raw, targets and predictions of one crop, to look at); 0
    writes none."""
    val_log_step: int = Field(default=1_000, ge=0)
    """Iterations between two computations of the validation loss; 0 computes none."""
    val_batches: int = Field(default=4, ge=1)
    """Validation batches; drawn once and the same each time, so that losses can be compared."""
    log_step: int = Field(default=10, ge=1)
    """Iterations between two rows of the log; a row has the mean loss since the one before."""
    schedule: Literal["constant", "linear", "cosine", "polynomial", "one_cycle", "plateau"] = (
        "cosine"
    )
    """Course of the learning rate over the budget; `linear`, `cosine`, `polynomial` (with the power
    0.9) and `one_cycle` (for a `warmup` of about 0.3) end at zero, `constant` stays, `plateau` is
    reduced whenever the validation loss does not fall any more."""
    warmup: Share = 0.02
    """Share of the budget during which the learning rate rises: in proportion from zero, with
    `one_cycle` along a cosine from 1/25."""
    plateau_patience: int = Field(default=5, ge=1)
    """With `plateau`: evaluations of the validation loss without a lower one after which the
    learning rate is reduced."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """With `plateau`: what the learning rate is multiplied with each time."""
    patience: int = Field(default=0, ge=0)
    """Evaluations of the validation loss (every `val_log_step` iterations) without a lower one
    after which training ends early; 0 never does. Checkpoints stay: validation chooses among all
    of them."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest Euclidean norm of all gradients together; longer ones are shortened to it, 0 never
    shortens."""
    weight_averaging: Share = 0.999
    """Decay of the running average of weights that validation and prediction use; 0 uses the
    weights themselves."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of the network's layers; `auto` takes 16 bits where the device computes faster with
    them."""
    memory_format: Literal["auto", "channels_first", "channels_last"] = "auto"
    """Order of values in memory; `auto` takes what suits the precision."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Mode of `torch.compile` for the network in training; worth its minutes of compiling in long
    trainings on a GPU. Weights and checkpoints are the same."""
    sampling: SamplingSettings = SamplingSettings()
    """Where crops are drawn."""
    augmentation: AugmentationSettings = AugmentationSettings()
    """Random changes of crops."""
    phases: PhasesSettings = PhasesSettings()
    """Parts of the training that follow each other."""

    @model_validator(mode="after")
    def _phases_have_their_time(self) -> Self:
        if self.phases.names and self.patience:
            raise ValueError(
                "patience must be 0 with [training.phases]: each phase has its share of the budget;"
                f" got {self.patience}"
            )
        return self

    @property
    def watches_validation(self) -> bool:
        """Whether the validation loss changes the course of the training."""
        return self.patience > 0 or self.schedule == "plateau"


class OptimizerSettings(Table):
    """How a training step changes the weights."""

    optimizer: Literal["Adam", "AdamW", "SGD"] = "AdamW"
    """Rule of the step."""
    lr: float = Field(default=5e-4, gt=0)
    """Learning rate at the top of its schedule."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """Strength with which weights are drawn to zero."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the averages of gradient and squared gradient (Adam, AdamW)."""
    momentum: Share = 0.9
    """Decay of the average of gradients (SGD)."""
