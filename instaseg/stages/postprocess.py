"""``--do postprocess``: repaired instances beside the labelled ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from instaseg.blockwise.scheduler import Pool
from instaseg.blockwise.store import open_store
from instaseg.blockwise.work import BlockWork
from instaseg.errors import StageError
from instaseg.geometry import Coordinate
from instaseg.io.arrays import open_array, write_array, written_at
from instaseg.io.samples import Sample, read_whole
from instaseg.methods.build import MethodSpec
from instaseg.postprocess.blocks import Output, postprocess_blocks
from instaseg.postprocess.config import PostprocessingSettings
from instaseg.postprocess.repair import postprocess_and_report
from instaseg.postprocess.scene import Scene
from instaseg.run.fingerprint import fingerprint
from instaseg.stages.context import Context, Dataset
from instaseg.stages.label import instances_fingerprint
from instaseg.stages.missing import forget_blocks, remove_blocks, skip_done
from instaseg.stages.predicting import require_predictions
from instaseg.stages.results.instances import LABELLED, REPAIRED
from instaseg.stages.results.table import RESULTS
from instaseg.stages.scene import open_scene, roi_state
from instaseg.stages.selection import Selection, select
from instaseg.stages.sizes import blocks_if_large, run_by_size, run_in
from instaseg.stages.stored import stored_fingerprint


@dataclass(frozen=True)
class RepairTask:
    """What repairing a sample needs.

    Parameters
    ----------
    sample : Sample
        The image.
    path : Path
        Zarr folder that is read and written.
    prediction : Path
        Zarr folder of the predicted heads, for a mask in which instances grow.
    method : MethodSpec
        What predicted them.
    settings : PostprocessingSettings
        What is done.
    fingerprint : str
        Kept with the result.
    block_shape : tuple of int, optional
        What is worked on at once where the instances are larger than that. Without it, large
        volumes are cut into blocks of `BLOCK_SHAPES`. The result is the same.
    """

    sample: Sample
    path: Path
    prediction: Path
    method: MethodSpec
    settings: PostprocessingSettings
    fingerprint: str
    block_shape: Coordinate | None = None

    def __str__(self) -> str:
        return f"sample {self.sample.name}"

    @property
    def table(self) -> Path:
        """The CSV file of what was measured and removed."""
        return self.path.with_suffix(".csv")

    @property
    def blocks(self) -> Path:
        """The folder of finished blocks."""
        return self.path.with_suffix(".repair")

    def is_done(self) -> bool:
        """Return whether the result is there, made from what it would be made from now."""
        if self.settings.measured and not self.table.is_file():
            return False
        return stored_fingerprint(self.path, REPAIRED) == self.fingerprint


def run(context: Context) -> str | None:
    """Repair the instances of every test sample that has no current repaired ones."""
    kind = RESULTS[context.method.result]
    if kind.repaired is None:
        return f"postprocess: skipped, {kind.noun} have no instances to repair"
    dataset, selection = context.dataset("test"), select(context)
    require_instances(context, dataset, selection)
    tasks = [_task(context, dataset, sample, selection) for sample in dataset.samples]
    missing = skip_done(
        context, tasks, RepairTask.is_done, words="postprocess: %d of %d samples done, skipped"
    )
    forget_blocks(context, [task.blocks for task in missing])
    if selection.parameters.postprocessing.voronoi.head is not None:
        names = [task.sample.name for task in missing]
        require_predictions(context, dataset, selection.checkpoint, names)
    with Pool(context.workers) as pool:
        run_by_size(
            pool,
            missing,
            _block_shape,
            whole=repair_whole,
            in_blocks=repair_in_blocks,
            description="postprocess",
        )
    remove_blocks(task.blocks for task in tasks)
    return None


def repair_sample(task: RepairTask, pool: Pool) -> None:
    """Repair instances and write the result beside them: at once, or block by block if large."""
    block_shape = _block_shape(task)
    if block_shape is None:
        repair_whole(task)
    else:
        repair_in_blocks(task, block_shape, pool)


def repair_whole(task: RepairTask) -> None:
    """Repair the instances of a sample that fit in memory."""
    instances, output = open_array(task.path, LABELLED), _output(task)
    repaired, report = postprocess_and_report(read_whole(instances), task.settings, _scene(task))
    output.write_table(report)
    write_array(output.path, output.key, repaired, attributes=output.attributes)


def repair_in_blocks(task: RepairTask, block_shape: Coordinate, pool: Pool) -> None:
    """Repair a sample block by block; finished blocks are kept until all of it is written."""
    # The same instances labelled once more may have other numbers, in blocks of another shape.
    labelled = written_at(task.path, LABELLED)
    made_from = fingerprint("repair in blocks", task.fingerprint, block_shape, labelled)
    store = open_store(task.blocks, made_from)
    postprocess_blocks(
        open_array(task.path, LABELLED),
        task.settings,
        _scene(task),
        work=BlockWork(block_shape, store, run_in(pool, f"postprocess {task.sample.name}")),
        output=_output(task),
    )
    store.remove()


def _output(task: RepairTask) -> Output:
    return Output(task.path, REPAIRED, {"fingerprint": task.fingerprint}, task.table)


def _scene(task: RepairTask) -> Scene:
    method = task.method.build()
    return open_scene(task.sample, task.settings, prediction=task.prediction, method=method)


def _block_shape(task: RepairTask) -> Coordinate | None:
    """Return the shape of blocks for the instances of a sample, None if they are repaired whole."""
    shape = open_array(task.path, LABELLED).shape
    return blocks_if_large(shape, task.sample.ndim, task.block_shape)


def repaired_fingerprint(context: Context, sample: Sample, selection: Selection) -> str:
    """Return the fingerprint of the repaired instances a sample should have."""
    labelled = instances_fingerprint(context, sample, selection)
    settings = selection.parameters.postprocessing
    return fingerprint("postprocess", labelled, settings, *roi_state(sample, settings))


def finished_key(context: Context, sample: Sample, path: Path, selection: Selection) -> str:
    """Return the array to evaluate: the repaired one if it is current, else the labelled one."""
    kind = RESULTS[context.method.result]
    if kind.repaired is None:
        return kind.key
    wanted = repaired_fingerprint(context, sample, selection)
    return kind.repaired if stored_fingerprint(path, kind.repaired) == wanted else kind.key


def finished_fingerprint(context: Context, sample: Sample, selection: Selection, key: str) -> str:
    """Return the fingerprint of the array that :func:`finished_key` names."""
    labelled = key == RESULTS[context.method.result].key
    made_from = instances_fingerprint if labelled else repaired_fingerprint
    return made_from(context, sample, selection)


def require_instances(context: Context, dataset: Dataset, selection: Selection) -> None:
    """Check that samples have current instances, or whatever the method gives.

    Raises
    ------
    StageError
        If some have none, or some from other predictions or parameters; lists them.
    """
    kind = RESULTS[context.method.result]
    lacking = [
        sample.name
        for sample in dataset.samples
        if stored_fingerprint(instances_path(context, dataset, sample, selection), kind.key)
        != instances_fingerprint(context, sample, selection)
    ]
    if lacking:
        raise StageError(
            f"expected {kind.noun} of checkpoint {selection.checkpoint} with parameters"
            f" {selection.parameters.instances_name} for every sample of {dataset.name}; none with"
            f" the present settings for {', '.join(lacking[:10])}; run label first"
        )


def instances_path(
    context: Context, dataset: Dataset, sample: Sample, selection: Selection
) -> Path:
    """Return the zarr folder of a sample's instances."""
    return context.experiment.instances(
        dataset.name, selection.checkpoint, selection.parameters.instances_name, sample.name
    )


def _task(context: Context, dataset: Dataset, sample: Sample, selection: Selection) -> RepairTask:
    return RepairTask(
        sample=sample,
        path=instances_path(context, dataset, sample, selection),
        prediction=context.experiment.prediction(dataset.name, selection.checkpoint, sample.name),
        method=context.method_spec,
        settings=selection.parameters.postprocessing,
        fingerprint=repaired_fingerprint(context, sample, selection),
        block_shape=context.config.general.block_shape,
    )
