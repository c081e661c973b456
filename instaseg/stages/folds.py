"""The folds of cross validation: two data sets, sub-folders of one, or what a split file lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from instaseg.errors import ConfigError, DataError
from instaseg.io.pairing import FOLDER_PAIRS, visible_files
from instaseg.io.samples import find_samples
from instaseg.run.folds import check_folds, read_folds
from instaseg.stages.context import Context, Dataset, Role


@dataclass(frozen=True)
class Fold:
    """Samples that are scored with what was chosen on the other folds."""

    name: str
    dataset: Dataset


def find_folds(context: Context) -> list[Fold]:
    """Return the folds ``[validation] folds`` asks for.

    Raises
    ------
    ConfigError
        If the split file is missing or broken.
    DataError
        If folders are missing or empty, or a sample is in two folds, in none, or unknown.
    """
    validation = context.config.validation
    if validation.folds == "data_sets":
        roles = [cast(Role, f.removesuffix("_data")) for f in context.config.data.cross_val_folders]
        # what is named first chooses for the other first
        return [Fold(role, context.dataset(role)) for role in reversed(roles)]
    role = cast(Role, validation.folds_of.removesuffix("_data"))
    if context.options.samples:
        raise ConfigError(
            f"--sample {context.options.samples[0]}: expected all samples, because [validation]"
            f" folds divides {role}_data among the folds; leave out --sample"
        )
    if validation.split_file is not None:
        found = _of_file(context, role, validation.split_file)
    else:
        found = _of_folders(context, role)
    most = context.options.most_samples
    return [Fold(f.name, Dataset(f.dataset.name, f.dataset.samples[:most])) for f in found]


def _of_file(context: Context, role: Role, file: Path) -> list[Fold]:
    """Return the folds a split file lists, each in the order of the data set."""
    folds, dataset = read_folds(file), context.with_all_samples().dataset(role)
    check_folds(folds, [sample.name for sample in dataset.samples], str(file))
    return [
        Fold(name, Dataset(dataset.name, tuple(s for s in dataset.samples if s.name in set(names))))
        for name, names in folds.items()
    ]


def _of_folders(context: Context, role: Role) -> list[Fold]:
    """Return one fold per sub-folder of a data set."""
    source = context.source(role)
    folder = context.folder(source)
    if folder is None or not folder.is_dir():
        raise ConfigError(
            f"[data] {source}_data: expected a folder with one folder of samples per fold, found"
            f" {folder or 'nothing'}; set it, or [validation] folds_of"
        )
    inner = [path for path in visible_files(folder) if path.is_dir() and path.suffix != ".zarr"]
    paired = {name for pair in FOLDER_PAIRS for name in pair}
    if len(inner) < 2 or any(path.name in paired for path in inner):
        names = ", ".join(path.name for path in inner) or "none"
        raise DataError(
            f"{folder}: expected at least two folders of samples because [validation] folds ="
            f' "folders", found {names}; make one folder per fold, or name a split file'
        )
    name, data, truth = context.dataset_name(role), context.config.data, context.method_spec.truth
    folds = [
        Fold(path.name, Dataset(name, tuple(find_samples(path, data, truth=truth))))
        for path in inner
    ]
    listed = {fold.name: [sample.name for sample in fold.dataset.samples] for fold in folds}
    check_folds(listed, [name for names in listed.values() for name in names], str(folder))
    return folds
