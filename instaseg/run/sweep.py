"""Parameter sets: what validation compares, and how a set is named."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import quote

from instaseg.metrics.config import EvaluationSettings
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.run.config import ValidationSettings
from instaseg.settings import Table

LABELLING = "vote_instances"
SWEPT_TABLES = (LABELLING, "postprocessing", "evaluation")


@dataclass(frozen=True)
class ParameterSet:
    """Settings of label, postprocess and evaluate that belong together.

    Parameters
    ----------
    values : dict
        What differs from the configuration, by dotted name.
    labelling, postprocessing, evaluation : Table
        The complete tables with these values.
    """

    values: Mapping[str, Any]
    labelling: Table
    postprocessing: PostprocessingSettings
    evaluation: EvaluationSettings

    @property
    def name(self) -> str:
        """Readable and unambiguous name of a folder of scores."""
        return set_name(self.values)

    @property
    def instances_name(self) -> str:
        """Name of a folder of instances: without ``[evaluation]``, which does not change them."""
        return set_name(
            {key: value for key, value in self.values.items() if not key.startswith("evaluation.")}
        )


def set_name(values: Mapping[str, Any]) -> str:
    """Return the folder name of a set of values, ``configured`` for none.

    Examples
    --------
    >>> set_name({"vote_instances.th": [1.5, 2]}), set_name({"vote_instances.th": [1, 5, 2]})
    ('th=1.5+2', 'th=1+5+2')
    """
    if not values:
        return "configured"
    short = {key.removeprefix(f"{LABELLING}."): value for key, value in values.items()}
    return ",".join(f"{quote(key)}={_text(value)}" for key, value in short.items())


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(_text(item) for item in value)
    return quote(value if isinstance(value, str) else json.dumps(value), safe="")


def combinations(settings: ValidationSettings) -> list[dict[str, Any]]:
    """Return the value sets of a sweep, product parameters outermost, by dotted name.

    Examples
    --------
    >>> combinations(ValidationSettings(params_product=["a"], params_zip=["b", "c"],
    ...                                 a=[1, 2], b=[3, 4], c=[5, 6]))[1]
    {'vote_instances.a': 1, 'vote_instances.b': 4, 'vote_instances.c': 6}
    """
    products = itertools.product(*(settings.values[name] for name in settings.params_product))
    zipped = list(zip(*(settings.values[name] for name in settings.params_zip), strict=True))
    names = [dotted(name) for name in (*settings.params_product, *settings.params_zip)]
    return [
        dict(zip(names, (*product, *together), strict=True))
        for product, together in itertools.product(products, zipped or [()])
    ]


def dotted(name: str) -> str:
    """Return ``table.key`` for a name of a sweep; a bare key belongs to ``vote_instances``."""
    return name if "." in name else f"{LABELLING}.{name}"


def parameter_set(tables: Mapping[str, Table], values: Mapping[str, Any]) -> ParameterSet:
    """Return `tables` (by the names in ``SWEPT_TABLES``) with `values` put in and validated."""
    changed = {
        table: type(settings).model_validate(
            settings.model_dump()
            | {key.partition(".")[2]: v for key, v in values.items() if key.startswith(f"{table}.")}
        )
        for table, settings in tables.items()
    }
    return ParameterSet(
        dict(values),
        changed[LABELLING],
        cast(PostprocessingSettings, changed["postprocessing"]),
        cast(EvaluationSettings, changed["evaluation"]),
    )


def best_row(
    rows: Sequence[Mapping[str, Any]], metric: str, *, better: Literal["higher", "lower"] = "higher"
) -> Mapping[str, Any]:
    """Return the row with the best value of `metric`.

    Ties go to the earlier checkpoint, then to the parameter set that was listed first: less
    training and the order the user wrote are the plainer choice.
    """
    sign = 1 if better == "higher" else -1
    return max(
        enumerate(rows), key=lambda item: (sign * item[1][metric], -item[1]["checkpoint"], -item[0])
    )[1]
