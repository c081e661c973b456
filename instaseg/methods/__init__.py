"""The methods there are; one line per method is all that is needed to add one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MethodEntry:
    """Where a method's parts are, as ``module:Class``, so that listing methods imports none.

    Parameters
    ----------
    settings : str
        Table ``[method]``.
    labelling : str
        Table ``[vote_instances]``: what turns predictions into instances, and may be swept.
    implementation : str
        The class with the face of :class:`instaseg.methods.base.Method`.
    evaluation : str
        Table ``[evaluation]``, a :class:`instaseg.metrics.config.ComparisonSettings`: how results
        are compared with the ground truth. Instances unless the method gives something else.
    agreement : str, optional
        Function of all tables by name that yields what they and ``[method]`` do not agree on:
        the place, as a tuple such as ``("evaluation", "metric")``, and the message.
    truth : str, optional
        Function of the table ``[method]`` that says whether the ground truth is ``"labels"``,
        ``"points"`` or ``"clefts"``, which are painted; labels where it is left out.
    """

    settings: str
    labelling: str
    implementation: str
    evaluation: str = "instaseg.metrics.config:EvaluationSettings"
    agreement: str | None = None
    truth: str | None = None


METHODS: dict[str, MethodEntry] = {
    "patches": MethodEntry(
        settings="instaseg.methods.patches.config:PatchesSettings",
        labelling="instaseg.methods.patches.config:LabelSettings",
        implementation="instaseg.methods.patches.method:PatchesMethod",
        agreement="instaseg.methods.patches.config:disagreements",
    ),
    "channels": MethodEntry(
        settings="instaseg.methods.channels.config:ChannelsSettings",
        labelling="instaseg.methods.channels.config:LabelSettings",
        implementation="instaseg.methods.channels.method:ChannelsMethod",
        agreement="instaseg.methods.channels.presets:disagreements",
    ),
    "deep_watershed": MethodEntry(
        settings="instaseg.methods.deep_watershed.config:DeepWatershedSettings",
        labelling="instaseg.methods.deep_watershed.config:LabelSettings",
        implementation="instaseg.methods.deep_watershed.method:DeepWatershedMethod",
        agreement="instaseg.methods.deep_watershed.config:disagreements",
    ),
    "semantic": MethodEntry(
        settings="instaseg.methods.semantic.config:SemanticSettings",
        labelling="instaseg.methods.semantic.config:LabelSettings",
        implementation="instaseg.methods.semantic.method:SemanticMethod",
        evaluation="instaseg.metrics.config:ClassEvaluationSettings",
        agreement="instaseg.methods.semantic.config:disagreements",
    ),
    "synapses": MethodEntry(
        settings="instaseg.methods.synapses.config:SynapsesSettings",
        labelling="instaseg.methods.synapses.config:PointSettings",
        implementation="instaseg.methods.synapses.method:SynapsesMethod",
        evaluation="instaseg.metrics.config:PointEvaluationSettings",
        agreement="instaseg.methods.synapses.config:disagreements",
        truth="instaseg.methods.synapses.config:truth",
    ),
}


def load(reference: str) -> Any:
    """Return the object a ``module:Name`` reference of the table means."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
