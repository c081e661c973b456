import pytest
from pydantic import ValidationError

from instaseg.postprocess.config import PostprocessingSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"remove_small_comps": -1}, "greater than or equal to 0"),
        ({"fill_holes": True}, "'none' or 'per_instance'"),
        ({"components": "biggest"}, "'all' or 'largest'"),
        ({"remove_small": 3}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        PostprocessingSettings(**values)
