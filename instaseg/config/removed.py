"""Keys and tables of PatchPerPix that are gone, and what replaces them.

A component answers for its own tables with a ``REMOVED_KEYS`` in its ``config.py``: by dotted name
(``"model.patchshape"``), by table (``{"data": {"fg_key": ...}}``), or by bare key for all tables of
that module. Here is what belongs to no table that is left, and to the runner. Where both answer,
the component wins.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from instaseg.config.schema import walk_tables
from instaseg.settings import Table

_OVERLAP = "overlaps are found in the array data.instances_key (volumes/gt_instances); remove it"
_BLOCKS = "results do not depend on blocks; remove it"
_FINISHED = "finished work is found and skipped by itself; remove it"
_DATA_INPUT = "crops are drawn from the labels; see [training.sampling]"

REMOVED: dict[str, str] = {
    "autoencoder": "its decoder is described by [method.code]; remove the table",
    "preprocessing": "images are normalised by [data.normalization]; remove it",
    "testing": "processes are set once, by general.num_workers; remove it",
    "optimizer.optimizer": "its keys stand in [optimizer] itself: optimizer and lr",
    "optimizer.loss": "the loss belongs to the method; remove it",
    "postprocessing.watershed": "results are written as zarr; remove it",
    "evaluation.prediction": "use validation.prediction_only and prediction_metric",
    "general.debug": 'use general.logging = "DEBUG", or --debug_args for a quick pass',
    "general.overwrite": "use --overwrite on the command line",
    "data.validate_on_train": "use --validate_on_train on the command line",
    "data.overlap_csv_folder": _DATA_INPUT,
    "data.fg_csv_folder": _DATA_INPUT,
    "data.sample_fg_points": "use training.sampling.probability_fg",
    "data.shift_intensity": "use training.augmentation.intensity.shift",
    "data.one_instance_per_channel_gt": _OVERLAP,
    "data.add_partly": "use data.mask_key to say where labels are complete",
    "training.train_code": 'use method.prediction = "codes" (true) or "patches" (false)',
    "training.oversample_complete": _DATA_INPUT,
    "training.reject_min_masked": "use training.sampling.min_masked",
    "training.probability_hue": "use training.augmentation.hue.probability",
    "training.hue_max_change": "use training.augmentation.hue.range, in degrees",
    "training.probability_permute": "use training.augmentation.permute_channels.probability",
    "training.sampling.min_masked_overlap": "use training.sampling.min_masked",
    "training.sampling.overlap_min_dist": _OVERLAP,
    "training.sampling.overlap_max_dist": _OVERLAP,
    "vote_instances.debug": 'use general.logging = "DEBUG"',
    "vote_instances.output_format": "instances are written as zarr; remove it",
    "vote_instances.sampling": "all patches are used; remove it",
    "vote_instances.overlap": _BLOCKS,
    "vote_instances.blockwise_old_stitch_fn": _BLOCKS,
    "vote_instances.skipLookup": _FINISHED,
    "vote_instances.aff_graph": _FINISHED,
    "vote_instances.store_scores": "use instaseg.methods.patches.rank_patches to see scores",
    "vote_instances.use_score_oracle": "patches are ranked by their score alone; remove it",
    "vote_instances.do_nms": "patches are chosen by cover and thin_out; remove it",
    "vote_instances.prob_based_consensus": "use vote",
    "vote_instances.remove_small_comps": "use postprocessing.remove_small_comps",
    "vote_instances.add_suffix": "results are kept apart by their parameters' names; remove it",
    "evaluation.prediction_only": "use validation.prediction_only",
    "evaluation.print_f_factor_perc_gt_0_8": "scores at 0.8 are in every summary; remove it",
    "visualize.save_mip": 'use visualize.plane = "projection"',
    "visualize.samples_to_visualize": "use --sample, or visualize.max_samples and visualize.order",
    "visualize.show_patches": "patches are not drawn in this release; remove it",
}


@functools.cache
def removed_keys(schema: type[Table]) -> Mapping[str, str]:
    """Return what replaces each removed key or table, by dotted name.

    Parameters
    ----------
    schema : type of Table
        Its tables' modules are asked for their ``REMOVED_KEYS``.
    """
    answers = dict(REMOVED)
    for path, cls in walk_tables(schema):
        answers.update(_component_answers(".".join(path), cls))
    return {name: f"is gone; {text.removeprefix('removed: ')}" for name, text in answers.items()}


def _component_answers(table: str, cls: type[Table]) -> Iterator[tuple[str, str]]:
    keys: Mapping[str, Any] = getattr(sys.modules[cls.__module__], "REMOVED_KEYS", {})
    for name, text in keys.items():
        if isinstance(text, Mapping):
            for key, inner in text.items():
                yield f"{name}.{key}", inner
        elif "." in name:
            yield name, text
        elif table != "method":  # PatchPerPix had no [method]: bare keys are of the other tables
            yield f"{table}.{name}", text
