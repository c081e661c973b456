"""Tables ``[method]`` and ``[vote_instances]`` of the method ``synapses``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self, cast

from pydantic import Field, model_validator

from instaseg.data.config import DataSettings
from instaseg.methods.config import Problem, without_effect
from instaseg.metrics.config import PointEvaluationSettings
from instaseg.settings import Table

Kind = Literal["pre_post", "post_vector", "post", "cleft"]

SITES: dict[Kind, tuple[str, ...]] = {
    "pre_post": ("pre", "post"),
    "post_vector": ("post",),
    "post": ("post",),
    "cleft": ("cleft",),
}
"""The sites of which each kind predicts a probability."""


class SynapsesSettings(Table):
    """``[method]``: what the network of the method ``synapses`` predicts.

    Distances are in the unit of `data.voxel_size`, which the method needs.
    """

    name: Literal["synapses"] = "synapses"
    """Name of the method."""

    kind: Kind = "pre_post"
    """`pre_post`: pre- and postsynaptic sites, joined by distance; `post_vector`: postsynaptic
    sites, and from each the vector to its presynaptic site; `post` or `cleft`: only these."""

    blob_radius: float = Field(gt=0)
    """Radius of the blob around a site: probability 1 at the site, a half at 0.6 of the radius, and
    0 beyond it."""

    partner_distance: float | None = Field(default=None, gt=0)
    """Greatest distance between the two sites of a connection; needed by `pre_post` and
    `post_vector`. Training sees no vectors longer than this."""

    vector_radius: float | None = Field(default=None, gt=0)
    """Distance from a postsynaptic site up to which voxels learn the vector; `blob_radius` where it
    is left out."""

    cleft_target: Literal["blobs", "masks"] = "blobs"
    """What `kind = "cleft"` learns: blobs around points, or clefts that are painted as labels
    (`data.gt_key`); a predicted cleft is then a connected component, and its point the centroid."""

    positive_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the loss that voxels of blobs or clefts make up, however few they are; higher values
    find more."""

    vector_weight: float = Field(default=1.0, ge=0)
    """Weight of the vectors in the loss."""

    @property
    def vectors(self) -> bool:
        """Whether vectors are predicted."""
        return self.kind == "post_vector"

    @property
    def connects(self) -> bool:
        """Whether sites belong together."""
        return self.kind in ("pre_post", "post_vector")

    @property
    def masks(self) -> bool:
        """Whether the network learns painted clefts."""
        return self.kind == "cleft" and self.cleft_target == "masks"

    @property
    def learnt_sites(self) -> tuple[str, ...]:
        """Sites that some sample to learn from must have, where points are learnt."""
        return ("pre", "post") if self.vectors else SITES[self.kind]

    @property
    def vector_reach(self) -> float:
        """Distance from a postsynaptic site up to which voxels learn the vector."""
        return self.blob_radius if self.vector_radius is None else self.vector_radius

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.connects and self.partner_distance is None:
            raise ValueError(
                f"partner_distance must be given where kind = '{self.kind}': the greatest distance"
                " of two sites that belong together, in the unit of data.voxel_size"
            )
        if self.cleft_target == "masks" and self.kind != "cleft":
            raise ValueError(
                f"cleft_target must be 'blobs' where kind = '{self.kind}'; got 'masks', which is"
                " for kind = 'cleft'"
            )
        return self


class PointSettings(Table):
    """``[vote_instances]``: how predicted probabilities become points and connections.

    Distances are in the unit of `data.voxel_size`.
    """

    threshold_by: Literal["value", "relative", "otsu"] = "value"
    """What thresholds are: probabilities (`value`), shares of the greatest probability in the
    volume (`relative`), or Otsu's threshold of each channel over the whole volume (`otsu`; the
    numbers are then not used)."""

    pre_threshold: float = Field(default=0.5, ge=0, lt=1)
    """Presynaptic peaks are higher than this."""

    post_threshold: float = Field(default=0.5, ge=0, lt=1)
    """Postsynaptic peaks are higher than this."""

    cleft_threshold: float = Field(default=0.5, ge=0, lt=1)
    """Clefts are higher than this."""

    min_distance: float | None = Field(default=None, ge=0)
    """Of two peaks of one channel at most this far apart the lower one is dropped, highest first;
    half of `method.blob_radius` where it is left out."""

    max_pair_distance: float | None = Field(default=None, gt=0)
    """Greatest distance of a connection's sites; `method.partner_distance` where it is left out."""

    cluster_distance: float | None = Field(default=None, ge=0)
    """Ends of vectors at most this far apart, or joined by a chain of such, are one presynaptic
    site; `method.blob_radius` where it is left out."""

    unpaired: Literal["keep", "drop"] = "keep"
    """Whether sites without a partner stay in the result; for kinds with connections."""

    neurons_key: str | None = None
    """Array of the sample with a segmentation of neurons (`[z,] y, x`, 0 where none is known):
    connections whose sites both lie in one of them are dropped. Not used where it is left out."""

    min_voxels: int = Field(default=1, ge=1)
    """Predicted clefts of fewer voxels are dropped, where clefts are painted."""

    def threshold(self, site: str) -> float:
        """Return the threshold of ``"pre"``, ``"post"`` or ``"cleft"``."""
        thresholds = {
            "pre": self.pre_threshold,
            "post": self.post_threshold,
            "cleft": self.cleft_threshold,
        }
        return thresholds[site]


def truth(settings: Table) -> Literal["clefts", "points"]:
    """Return what the method learns: points, or painted clefts."""
    return "clefts" if cast(SynapsesSettings, settings).masks else "points"


def disagreements(tables: Mapping[str, Table]) -> Iterator[Problem]:
    """Yield what tables do not agree on with ``[method]``, and keys that nothing looks at."""
    method = cast(SynapsesSettings, tables["method"])
    if not method.vectors:
        unused = ("vector_radius", "vector_weight")
        yield from without_effect("method", method, unused, f"kind = '{method.kind}'")
    label = tables.get("vote_instances")
    if label is not None and not method.masks:
        yield from without_effect("vote_instances", label, ("min_voxels",), "sites that are peaks")
    if label is not None:
        others = {"pre", "post", "cleft"} - {*SITES[method.kind]}
        keys = [f"{site}_threshold" for site in sorted(others)]
        keys += [] if method.vectors else ["cluster_distance"]
        keys += [] if method.connects else ["max_pair_distance", "unpaired", "neurons_key"]
        yield from without_effect("vote_instances", label, keys, f"kind = '{method.kind}'")
    data = tables.get("data")
    if isinstance(data, DataSettings) and data.voxel_size is None:
        yield (
            ("data", "voxel_size"),
            f"must be {data.ndim} numbers, the physical size of a voxel, because method.name ="
            " 'synapses' measures distances; got nothing",
        )
    evaluation = tables.get("evaluation")
    if isinstance(evaluation, PointEvaluationSettings):
        scored, _, _ = evaluation.metric.partition(".")
        given = scored_of(method)
        if scored not in given:
            yield (
                ("evaluation", "metric"),
                f"must be a score of {' or '.join(given)} because method.kind = '{method.kind}';"
                f" got '{evaluation.metric}'",
            )


def scored_of(method: SynapsesSettings) -> tuple[str, ...]:
    """Return what results of the method have scores for: kinds of points, and connections."""
    if method.connects:
        return ("connections", "pre", "post")
    return (method.kind,)
