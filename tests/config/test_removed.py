"""Every key a published PatchPerPix configuration has is either valid here or answered."""

import pytest

from instaseg.config.check import field_at
from instaseg.config.load import load_config
from instaseg.config.removed import REMOVED, removed_keys
from instaseg.config.schema import build_schema
from instaseg.errors import ConfigError

# Keys of the configurations published for dsb2018, wormbodies and flylight, by table.
PUBLISHED = {
    "general": """
        logging debug overwrite
    """,
    "data": """
        train_data val_data test_data overlap_csv_folder fg_csv_folder voxel_size
        input_format num_channels gt_key raw_key validate_on_train shift_intensity
        add_partly sample_fg_points cross_val_folders one_instance_per_channel_gt
    """,
    "model": """
        train_net_name test_net_name train_input_shape test_input_shape
        train_input_shape_valid test_input_shape_valid train_input_shape_same
        test_input_shape_same patchshape patchstride max_num_inst num_fmaps fmap_inc_factors
        fmap_dec_factors downsample_factors activation padding val_padding train_padding
        kernel_size num_repetitions upsampling overlapping_inst train_code patch_activation
        code_units autoencoder_chkpt network_style decode_batch_size autoencoder
    """,
    "": """
        autoencoder preprocessing testing
    """,
    "training": """
        val_log_step len_epoch batch_size num_gpus num_workers cache_size max_iterations
        checkpoints snapshots profiling probability_hue hue_max_change probability_permute
        reject_min_masked use_auto_mixed_precision add_affinities mask_bg_weight
        use_gt_extra init_ssl oversample_complete train_code
    """,
    "training.sampling": """
        min_masked probability_random probability_fg probability_overlap
        point_balance_radius_overlap min_masked_overlap overlap_min_dist overlap_max_dist
    """,
    "training.augmentation": """
        intensity simple overlay
    """,
    "training.augmentation.intensity": """
        scale shift
    """,
    "training.augmentation.elastic": """
        control_point_spacing jitter_sigma rotation_min rotation_max subsample
    """,
    "optimizer": """
        optimizer lr loss
    """,
    "prediction": """
        output_format num_workers cache_size aff_key code_key fg_key numinst_key mask_folder
        clean_mask fg_thresh overlap decode_batch_size
    """,
    "validation": """
        params_product params_zip checkpoints
    """,
    "vote_instances": """
        patch_threshold fc_threshold cuda blockwise only_bb ignore_small_comps
        num_parallel_samples num_parallel_blocks num_workers chunksize sampling debug
        select_patches_for_sparse_data save_no_intermediates output_format parallel
        includeSinglePatchCCS one_instance_per_channel sample removeIntersection mws
        isbiHack mask_fg_border graphToInst skipLookup skipConsensus skipRanking
        skipThinCover affinity_graph_voting affinity_graph_voting_selected
        termAfterThinCover add_suffix consensus_without_overlap pad_with_ps fg_thresh_vi
        consensus_interleaved_cnt consensus_norm_prob_product consensus_prob_product
        consensus_norm_aff vi_bg_use_inv_th vi_bg_use_half_th vi_bg_use_less_than_th
        rank_norm_patch_score rank_int_counter patch_graph_norm_aff blockwise_old_stitch_fn
        flip_cons_arr_axes use_score_oracle store_scores shuffle_patches
        return_intermediates remove_small_comps do_nms skeletonize_foreground
        prob_based_consensus numinst_threshs overlap aff_graph selected_patch_pairs crop_z_s
    """,
    "evaluation": """
        num_workers from_scratch res_key metric localization_criterion assignment_strategy
        remove_small_components keep_gt_shape evaluate_false_labels add_general_metrics
        add_multi_thresh_metrics average_over_samples summary print_f_factor_perc_gt_0_8
        use_linear_sum_assignment foreground_only prediction_only prediction
    """,
    "visualize": """
        save_mip samples_to_visualize show_patches
    """,
    "postprocessing": """
        watershed remove_small_comps
    """,
}

NAMES = [f"{table}.{key}".lstrip(".") for table, keys in PUBLISHED.items() for key in keys.split()]


@pytest.mark.parametrize("name", NAMES)
def test_published_keys_are_valid_or_answered(name):
    schema = build_schema("patches")
    answer = removed_keys(schema).get(name)
    assert answer or field_at(schema, tuple(name.split("."))), f"{name} gets no answer"


def test_no_answer_for_a_key_that_exists():
    schema = build_schema("patches")
    both = [name for name in removed_keys(schema) if field_at(schema, tuple(name.split(".")))]
    assert both == ["optimizer.optimizer"]  # a key here, a table there


def test_answers_name_only_tables_and_keys_that_exist():
    """An answer ``use a.b`` must name a key of today."""
    schema = build_schema("patches")
    tables = set(schema.model_fields)
    for name, answer in removed_keys(schema).items():
        for word in answer.replace(";", " ").replace(",", " ").replace("`", " ").split():
            table, _, key = word.strip(".:()").partition(".")
            if table in tables and key:
                place = (table, *key.split("."))
                assert field_at(schema, place), f"{name}: {word} does not exist"


def test_no_answer_is_given_twice():
    for name in REMOVED:
        assert removed_keys(build_schema("patches"))[name] == f"is gone; {REMOVED[name]}"


def test_removed_keys_and_tables_are_answered(tmp_path):
    file = tmp_path / "old.toml"
    file.write_text(
        "[model]\npatchshape = [1, 25, 25]\n[testing]\nnum_workers = 5\n"
        '[optimizer.optimizer]\noptimizer = "Adam"\n[vote_instances]\nmws = true\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_config([file], ["method.patch_shape=[25, 25]"])
    assert str(caught.value).split("\n- ")[1:] == [
        f"{file} [model] patchshape: is gone; use method.patch_shape",
        f"{file} [testing]: is gone; processes are set once, by general.num_workers; remove it",
        f"{file} [optimizer.optimizer]: is gone; its keys stand in [optimizer] itself: optimizer"
        " and lr",
        f'{file} [vote_instances] mws: is gone; use partition = "mutex" (true) or partition ='
        ' "components" (false)',
    ]
