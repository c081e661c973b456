"""What of a stage's work is left, and what is said of the rest."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from instaseg.blockwise.store import open_store
from instaseg.stages.context import Options
from instaseg.stages.missing import forget_blocks, missing_tasks, skip_done

WORDS = "label: %d of %d samples done, skipped"


def context(existing):
    return SimpleNamespace(options=Options(existing=existing))


@pytest.mark.parametrize(
    ("existing", "done", "missing", "said"),
    [
        pytest.param("keep", "bd", ["a", "c"], ["label: 2 of 4 samples done, skipped"], id="some"),
        pytest.param("keep", "", ["a", "b", "c", "d"], [], id="none"),
        pytest.param("keep", "abcd", [], ["label: 4 of 4 samples done, skipped"], id="all"),
        pytest.param("overwrite", "bd", ["a", "b", "c", "d"], [], id="overwritten"),
    ],
)
def test_what_is_missing(existing, done, missing, said, caplog):
    with caplog.at_level(logging.INFO):
        found = skip_done(context(existing), "abcd", lambda task: task in done, words=WORDS)
    assert found == missing
    assert caplog.messages == said
    assert missing_tasks(context(existing), "abcd", lambda task: task in done) == missing


@pytest.mark.parametrize(("existing", "there"), [("keep", True), ("overwrite", False)])
def test_overwriting_begins_without_finished_blocks(tmp_path, existing, there):
    store = open_store(tmp_path / "a.blocks", "this")
    store.write("step", 0, {"values": np.zeros(1)})
    forget_blocks(context(existing), [tmp_path / "a.blocks", tmp_path / "b.blocks"])
    assert store.folder.exists() == there


def test_what_is_done_anyway_is_not_asked():
    def never(task):
        raise AssertionError(task)

    assert missing_tasks(context("overwrite"), ["a"], never) == ["a"]
