"""Codes and their decoder, shared by the stages that need decoded predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from instaseg.errors import StageError
from instaseg.io.samples import Sample
from instaseg.methods.build import MethodSpec
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.predicting import prediction_fingerprint
from instaseg.stages.selection import Selection
from instaseg.stages.stored import stored_fingerprint

if TYPE_CHECKING:
    from instaseg.methods.base import Decode, Device


def checkpoint_decoder(context: Context, checkpoint: int) -> Decode | None:
    """Return the decoder of a checkpoint, for any process; None for methods without codes."""
    if context.method.coding is None:
        return None
    from instaseg.inference.decoding import CheckpointDecoder
    from instaseg.training.checkpoints import checkpoint_path

    return CheckpointDecoder(
        checkpoint_path(context.experiment.checkpoints, checkpoint),
        context.method_spec,
        assembly_device(context),
    )


def decoding_in_label(spec: MethodSpec) -> MethodSpec:
    """Return the same method, whose codes are decoded as they are labelled and in no stage."""
    if spec.build().coding is None:
        return spec
    code = spec.settings.code.model_copy(update={"decode": "label"})  # type: ignore[attr-defined]
    return replace(spec, settings=spec.settings.model_copy(update={"code": code}))


def assembly_device(context: Context) -> Device:
    """Return where predictions are decoded and heavy steps of labelling run."""
    wanted = context.config.general.device
    if wanted == "cpu":
        return "cpu"
    from instaseg.training.devices import choose_device

    return "cuda" if choose_device(wanted).type == "cuda" else "cpu"


def decoded_fingerprint(context: Context, sample: Sample, selection: Selection) -> str:
    """Return the fingerprint of the patches the stage ``decode`` should have written.

    Patches are decoded where a sample is foreground, so the threshold counts.
    """
    prediction = prediction_fingerprint(context, sample, selection.checkpoint)
    parameters = selection.parameters.labelling.model_dump()
    return fingerprint("decode", prediction, parameters["fg_threshold"])


def is_decoded(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> bool:
    """Return whether a sample's patches are there, or need not be."""
    coding = context.method.coding
    if coding is None or coding.decodes_in != "stage":
        return True
    path = context.experiment.prediction(dataset.name, selection.checkpoint, sample.name)
    wanted = decoded_fingerprint(context, sample, selection)
    return stored_fingerprint(path, coding.decoded.key) == wanted


def require_decoded(
    context: Context, dataset: Dataset, selection: Selection, names: Sequence[str]
) -> None:
    """Check that the codes of samples are decoded, where a stage does that.

    Raises
    ------
    StageError
        If some are not; lists them.
    """
    lacking = [
        sample.name
        for sample in dataset.samples
        if sample.name in names and not is_decoded(context, dataset, sample, selection)
    ]
    if lacking:
        raise StageError(
            f"expected decoded patches of checkpoint {selection.checkpoint} for every sample of"
            f" {dataset.name}; none for {', '.join(lacking[:10])}; run decode first, or set"
            ' method.code.decode = "label"'
        )
