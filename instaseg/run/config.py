"""Tables of the runner itself: ``[general]`` and ``[validation]``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from instaseg.settings import Table


class GeneralSettings(Table):
    """What concerns a run as a whole."""

    seed: int = Field(default=0, ge=0)
    """Seed of every random choice; the same seed draws the same batches."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run; `auto` takes a CUDA device if there is one."""
    num_workers: int = Field(default=1, ge=1)
    """Processes that label, post-process and evaluate samples; 1 works in the main process."""
    logging: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe message shown on the terminal; the file `run.log` always holds all of them."""


class ValidationSettings(Table):
    """Which checkpoints and parameters `validate_checkpoints` compares.

    Every name in `params_product` or `params_zip` has its list of values as a key of its own in
    this table, for example ``patch_threshold = [0.5, 0.7]``.
    """

    model_config = ConfigDict(extra="allow")

    checkpoints: Literal["all"] | tuple[int, ...] = "all"
    """Iterations whose checkpoints are compared, or `all` that were kept."""
    params_product: tuple[str, ...] = ()
    """Parameters of `[vote_instances]`, or dotted such as `postprocessing.x`, of which all
    combinations are tried."""
    params_zip: tuple[str, ...] = ()
    """Parameters that change in step: the first value of each, then the second ..."""

    @model_validator(mode="after")
    def _lists_and_names_agree(self) -> Self:
        names = (*self.params_product, *self.params_zip)
        problems = [
            f"{name}: named twice in params_product and params_zip"
            for name in sorted(set(names))
            if names.count(name) > 1
        ]
        problems += [
            f"{name}: must be a list of values to try because params_product or params_zip names"
            f" it; got {self.values.get(name, 'no such key')}"
            for name in sorted(set(names))
            if not (isinstance(self.values.get(name), (list, tuple)) and self.values[name])
        ]
        problems += [
            f"{name}: unknown key, or a list of values that neither params_product nor params_zip"
            " names; add it to one of them"
            for name in sorted(set(self.values) - set(names))
        ]
        lengths = {name: len(self.values[name]) for name in self.params_zip if name in self.values}
        if len(set(lengths.values())) > 1:
            problems.append(f"params_zip: lists must be equally long; got lengths {lengths}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def values(self) -> dict[str, list[Any]]:
        """Lists of values to try, by parameter name."""
        return dict(self.model_extra or {})
