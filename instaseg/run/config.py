"""Tables of the runner itself: ``[general]`` and ``[validation]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from instaseg.settings import Shape, Table

LABELLING = "vote_instances"
"""Table that names in ``params_product`` or ``params_zip`` without a table belong to."""
SWEPT_TABLES = {
    LABELLING: "labelling",
    "postprocessing": "postprocessing",
    "evaluation": "evaluation",
}
"""Tables whose keys validation may choose, and what a parameter set calls them."""
CHOOSING_METRIC = "evaluation.metric"


def dotted(name: str) -> str:
    """Return ``table.key`` for a name of a sweep; what names no table is of ``vote_instances``.

    Examples
    --------
    >>> dotted("patch_threshold"), dotted("evaluation.metric"), dotted("inner.key")
    ('vote_instances.patch_threshold', 'evaluation.metric', 'vote_instances.inner.key')
    """
    return name if name.partition(".")[0] in SWEPT_TABLES else f"{LABELLING}.{name}"


class GeneralSettings(Table):
    """What concerns a run as a whole."""

    seed: int = Field(default=0, ge=0)
    """Seed of every random choice; the same seed draws the same batches."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run; `auto` takes a CUDA device if there is one."""
    num_workers: int = Field(default=1, ge=1)
    """Processes that predict, decode, label, post-process and evaluate, with one thread each; on a
    GPU each of them loads the network. 1 works in the main process, with all threads."""
    block_shape: Shape | None = None
    """Voxels per axis of the blocks in which images are labelled and post-processed, in validation
    too; results are the same with any. Left out, an image is worked on as a whole where it fits in
    memory, else in blocks that do."""
    logging: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe message shown on the terminal; the file `run.log` always holds all of them."""

    @field_validator("block_shape")
    @classmethod
    def _block_has_voxels(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"must be sides of 1 voxel or more; got {list(value)}")
        return value


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
    folds: Literal["data_sets", "folders", "split_file"] = "data_sets"
    """What `cross_validate` leaves out in turn: the two `data_sets` of `[data] cross_val_folders`,
    the `folders` in the folder of `folds_of`, or the lists of `split_file`."""
    split_file: Path | None = None
    """Folds of the samples of `folds_of`: TOML with a list of sample names per fold, at the top or
    below `[folds]` (one called `train` is no fold), or CSV with the columns `sample` and `fold`."""
    folds_of: Literal["val_data", "test_data"] = "test_data"
    """The data set that `folders` or `split_file` divide into folds."""

    prediction_only: bool = False
    """True compares the predictions themselves with the ground truth and labels nothing: then
    `validate` and `validate_checkpoints` choose the checkpoint by `prediction_metric`, and
    parameters stay as configured. Samples whose prediction does not fit in memory are left out."""
    prediction_metric: str = "patch.th_0_5.IoU"
    """Score that chooses the checkpoint with `prediction_only`: `precision`, `recall`, `fscore` or
    `IoU` of patches above a probability (`patch.th_0_5.IoU` ... `patch.th_0_9.IoU`) or of the
    `foreground`, or `count.accuracy`, of one number `count.accuracy_2`."""

    @model_validator(mode="after")
    def _lists_and_names_agree(self) -> Self:
        names = (*self.params_product, *self.params_zip)
        meant = [dotted(name) for name in names]
        problems = [
            f"{name}: named twice in params_product and params_zip"
            for name in sorted(set(names))
            if meant.count(dotted(name)) > 1
        ]
        problems += [
            f"{name}: cannot be tried: parameter sets are compared by this one score; remove it"
            for name in sorted(set(names))
            if dotted(name) == CHOOSING_METRIC
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
        if (self.folds == "split_file") != (self.split_file is not None):
            problems.append(
                'folds = "split_file" and split_file must be given together; got folds ='
                f' "{self.folds}" and split_file = {self.split_file or "nothing"}'
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def values(self) -> dict[str, list[Any]]:
        """Lists of values to try, by parameter name."""
        return dict(self.model_extra or {})
