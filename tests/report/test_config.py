import pytest
from pydantic import ValidationError

from instaseg.report.config import VisualizeSettings


@pytest.mark.parametrize("percentiles", [(50, 50), (-1, 9), (0, 101), (9, 1)])
def test_percentiles_ascend(percentiles):
    with pytest.raises(ValidationError, match="percentiles must be two ascending numbers from 0"):
        VisualizeSettings(percentiles=percentiles)
