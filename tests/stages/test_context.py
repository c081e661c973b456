"""What a stage is given."""

import pytest

from instaseg.blockwise.scheduler import Workers
from instaseg.config.load import load_config
from instaseg.run.experiment import Experiment
from instaseg.stages.context import Context, Options


@pytest.fixture
def context(tmp_path):
    """Return a context whose data sets are asked for by name only."""
    return Context(
        config=load_config([], ["method.patch_shape=[3, 3]"]),
        experiment=Experiment(tmp_path / "experiment"),
        setup_code=tmp_path,
        options=Options(stands_in={"test": "train"}),
        workers=Workers(),
    )


def test_a_data_set_in_the_place_of_another_has_a_name_of_its_own(context):
    assert context.dataset_name("val") == "val"
    assert context.dataset_name("test") == "test_on_train"


def test_the_method_does_not_travel_to_workers(context):
    heads = [head.key for head in context.method.heads]
    assert "method" in vars(context)
    sent = context.for_workers()
    assert sent == context
    assert "method" not in vars(sent)
    assert [head.key for head in sent.method.heads] == heads
