"""Tables ``[method]`` and ``[vote_instances]`` of the method ``patches``, and removed keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from instaseg.methods.config import InstanceClassesSettings, Problem, without_effect
from instaseg.models.config import CodeSettings
from instaseg.settings import Shape, Table

LONGEST = 255
"""Longest side of a patch in voxels: the votes of one line of patches are counted in bytes."""

Background = Literal["inverse", "half", "less_than"]
Vote = Literal["normalized_product", "product", "count"]


def _checked_patch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `shape` if it is two or three odd positive sides."""
    if len(shape) not in (2, 3) or any(side < 1 or side % 2 == 0 for side in shape):
        raise ValueError(
            f"must be two or three odd sides in voxels, such as [25, 25]; got {list(shape)}"
        )
    if not 3 <= max(shape) <= LONGEST:
        raise ValueError(
            f"must have a side of 3 voxels or more, and none above {LONGEST}; got {list(shape)}"
        )
    return shape


class PatchesSettings(Table):
    """``[method]``: what the network of the method ``patches`` predicts."""

    NOT_PREDICTED: ClassVar[Mapping[str, Any]] = {
        "fg_weight": True,
        "patch_weight": True,
        "mask_bg_weight": True,
        "code": {
            "patches_per_crop": True,
            "batch_size": True,
            "decode": True,
            "autoencoder_chkpt": True,
            "decoder_training": True,
        },
    }

    name: Literal["patches"] = "patches"
    """Name of the method."""

    patch_shape: Shape
    """Odd sides of a patch in voxels: a voxel predicts which voxels of it share its instance. In
    volumes, `[1, y, x]` or `[y, x]` lies in the plane."""

    prediction: Literal["patches", "codes"] = "patches"
    """What is predicted at a voxel: its patch, or a shorter code that a decoder turns into one."""

    foreground: Literal["head", "centre", "count"] = "head"
    """Where the foreground comes from: a head of its own, the patch's centre channel, or a head
    that counts the instances at a voxel, which overlapping instances need."""

    max_num_inst: int = Field(default=2, ge=2)
    """Largest number of instances at a voxel that the head of `foreground = "count"` knows."""

    border: Literal["mirror", "cut"] = "mirror"
    """Mirror the image beyond its border, so that edge instances are whole, or lose them."""

    fg_weight: float = Field(default=1.0, ge=0)
    """Weight in the loss of the cross entropy of foreground or instance count."""

    patch_weight: float = Field(default=1.0, ge=0)
    """Weight of the patch's cross entropy in the loss."""

    mask_bg_weight: float = Field(default=0.0, ge=0, le=1)
    """Weight in the loss of background where the mask says that labels are incomplete; labelled
    instances always count 1."""

    code: CodeSettings = CodeSettings()
    """Patch codes and their decoder; used where `prediction = "codes"`."""

    instance_classes: InstanceClassesSettings = InstanceClassesSettings()
    """Classes of instances: a head that tells of which class a voxel's instance is."""

    _patch_shape_is_odd = field_validator("patch_shape")(_checked_patch_shape)

    @model_validator(mode="after")
    def _codes_fit(self) -> Self:
        if self.prediction == "patches":
            return self
        if self.foreground == "centre":
            raise ValueError(
                'foreground must be "head" or "count" where prediction = "codes": a code has no'
                ' centre channel; got "centre"'
            )
        problem = self.code.problem(self.patch_shape)
        if problem:
            raise ValueError(f"[code] {problem}")
        return self


class LabelSettings(Table):
    """``[vote_instances]``: how predicted patches become instances."""

    patch_threshold: float = Field(default=0.5, ge=0, lt=1)
    """Probability above which a voxel belongs to a patch; higher values split more."""

    fc_threshold: float = Field(default=0.5, ge=0, le=1)
    """Probability above which a patch covers a voxel; higher values select more patches."""

    fg_threshold: float = Field(default=0.5, ge=0, le=1)
    """Foreground probability above which a voxel is foreground."""

    overlap_threshold: float = Field(default=0.5, ge=0, le=1)
    """Probability of more than one instance above which a voxel belongs to an overlap: it forms no
    pairs, and instances run through it. Used where the network counts instances."""

    background: Background = "inverse"
    """Probability below which a patch says "not mine": ``1 - patch_threshold`` (never above
    ``patch_threshold``), half of ``patch_threshold``, or anything less than it."""

    vote: Vote = "normalized_product"
    """Strength of a patch's vote on a pair: product of its two probabilities scaled to 0...1, the
    product itself, or one."""

    consensus: Literal["mean", "sum"] = "mean"
    """Whether the votes on a pair are divided by their number."""

    rank: Literal["sum", "signs"] = "sum"
    """Whether a patch's score sums the consensus over its pairs, or only its signs."""

    score_threshold: float | None = None
    """Patches that score less are never selected; none where it is left out."""

    cover: Literal["dense", "sparse"] = "dense"
    """Select patches in passes that ask for much, then for less new cover (dense objects), or in
    one pass that asks for any (sparse objects such as neurons)."""

    cover_mask: Literal["foreground", "skeleton"] = "foreground"
    """What the selected patches have to cover: the foreground or only its skeleton."""

    thin_out: Literal["none", "greedy"] = "none"
    """Whether a greedy set cover then drops selected patches that are not needed."""

    patch_distance: int = Field(default=2, ge=1)
    """Patches whose centres are at most this many patch shapes apart, per axis, are compared."""

    same_patch_weight: float = Field(default=0.2, ge=0, le=1)
    """Weight of voxel pairs that lie in both compared patches, which agree trivially."""

    partition: Literal["components", "mutex"] = "components"
    """Join patches along all attractive edges, or by mutex watershed, which heeds repulsion too."""

    single_patches: Literal["keep", "drop"] = "keep"
    """Whether a patch that is attracted by no other is an instance."""

    paint_threshold: float | None = Field(default=None, ge=0, lt=1)
    """Probability above which a patch paints a voxel; `patch_threshold` where it is left out. Lower
    values give fuller instances where a high `patch_threshold` separates them."""

    paint: Literal["patches", "foreground"] = "patches"
    """What a patch paints: all voxels it claims, or those of them that are foreground, which often
    has the better outlines."""

    output: Literal["single", "one_per_channel", "packed"] = "single"
    """One label image, one channel per instance, or as few channels as hold instances apart."""

    ignore_small_components: int = Field(default=0, ge=0)
    """Foreground components of fewer voxels are ignored; 0 keeps all."""

    region: Literal["whole", "bounding_box"] = "whole"
    """Work on the whole array or on its foreground's bounding box: same result, less memory.
    Blocks without foreground are left out in any case."""

    @property
    def painted_above(self) -> float:
        """Probability above which a patch paints a voxel."""
        return self.patch_threshold if self.paint_threshold is None else self.paint_threshold


REMOVED_KEYS: dict[str, str] = {
    "cuda": "removed: the device is chosen by general.device; assembly runs on all processor cores",
    "blockwise": "use general.block_shape; results are the same with and without blocks",
    "chunksize": "use general.block_shape",
    "mws": 'use partition = "mutex" (true) or partition = "components" (false)',
    "includeSinglePatchCCS": 'use single_patches = "keep" (true) or "drop" (false)',
    "select_patches_for_sparse_data": 'use cover = "sparse" (true) or cover = "dense" (false)',
    "removeIntersection": "use overlap_threshold; voxels in an overlap never vote",
    "one_instance_per_channel": (
        'use output = "one_per_channel" (true), or "single" or "packed" (false)'
    ),
    "vi_bg_use_inv_th": 'use background = "inverse"',
    "vi_bg_use_half_th": 'use background = "half"',
    "vi_bg_use_less_than_th": 'use background = "less_than"',
    "consensus_norm_prob_product": 'use vote = "normalized_product"',
    "consensus_prob_product": 'use vote = "product", or vote = "count" for plain counting',
    "consensus_norm_aff": 'use consensus = "mean" (true) or consensus = "sum" (false)',
    "consensus_interleaved_cnt": "removed: votes and their number are always kept side by side",
    "consensus_without_overlap": "removed: voxels of more than one instance never vote",
    "rank_norm_patch_score": "removed: scores are always divided by the number of pairs",
    "rank_int_counter": 'use rank = "signs" (true) or rank = "sum" (false)',
    "patch_graph_norm_aff": "removed: an edge is always the mean over its voxel pairs",
    "affinity_graph_voting": "removed: instances always come from the patch graph",
    "affinity_graph_voting_selected": "removed: instances always come from the patch graph",
    "max_total_patch_distance_in_ps_multiples": "use patch_distance, one whole number for all axes",
    "overlapping_inst": 'use method.foreground = "count" (true) or "head" (false)',
    "only_bb": 'use region = "bounding_box" (true) or region = "whole" (false)',
    "pad_with_ps": 'use method.border = "mirror"',
    "ignore_small_comps": "use ignore_small_components, in voxels",
    "skeletonize_foreground": 'use cover_mask = "skeleton" (true) or "foreground" (false)',
    "numinst_threshs": "use fg_threshold and overlap_threshold",
    "fg_thresh_vi": "use fg_threshold",
    "score_threshold_vi": "use score_threshold",
    "sample": "use the command line's --sample",
    "isbiHack": "removed: instances are scored as they are painted",
    "skipConsensus": "removed: finished work is recognised and not repeated",
    "skipRanking": "removed: finished work is recognised and not repeated",
    "skipThinCover": 'use thin_out = "none" (true) or thin_out = "greedy" (false)',
    "save_no_intermediates": "removed: intermediates stay in memory and are never written",
    "return_intermediates": "removed: call the functions of instaseg.methods.patches one by one",
    "flip_cons_arr_axes": "removed: the layout of the consensus is chosen by the program",
    "shuffle_patches": "removed: patches are visited in a defined order",
    "mask_fg_border": "removed: use a higher fg_threshold",
    "check_required": "removed: the patch graph is always checked",
    "graphToInst": "removed: instances are always painted from the patch graph",
    "debug_output1": 'removed: use general.logging = "DEBUG"',
    "aff_key": "removed: patches are always read from volumes/pred_affs",
    "fg_key": "removed: foreground is always read from volumes/pred_fgbg",
    "parallel": "use the command line's --workers",
    "num_workers": "use the command line's --workers",
    "num_parallel_samples": "use the command line's --workers",
    "num_parallel_blocks": "use the command line's --workers",
    "termAfterThinCover": "removed: call the functions of instaseg.methods.patches one by one",
    "selected_patch_pairs": "removed: call the functions of instaseg.methods.patches one by one",
    "store_iou": "removed",
    "crop_z_s": "use the command line's --sample on a cropped sample",
}
"""PatchPerPix's keys of ``[vote_instances]`` that are gone, and what replaces each."""


def disagreements(tables: Mapping[str, Table]) -> Iterator[Problem]:
    """Yield the keys that nothing looks at where instances are not counted."""
    method = tables["method"]
    if not isinstance(method, PatchesSettings) or method.foreground == "count":
        return
    why = f"foreground = '{method.foreground}', which does not count instances"
    yield from without_effect("method", method, ("max_num_inst",), why)
    if label := tables.get("vote_instances"):
        yield from without_effect("vote_instances", label, ("overlap_threshold",), why)
