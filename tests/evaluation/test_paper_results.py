"""The paper's figures, held against each other: a slip of copying shows in a column's mean."""

import pytest

from tests.drawn import FIFTEEN
from vqad.evaluation.metrics import Metrics
from vqad.evaluation.paper_results import PUBLISHED

# Where the paper's rows give another mean than it prints (.20 here).
PRINTED_OTHERWISE = {("pixel_f1", "AE-L2"): 0.19}
COLUMNS = [(metric, method) for metric, columns in PUBLISHED.items() for method in columns]


def test_every_metric_is_one_of_ours_and_every_category_is_there() -> None:
    assert set(PUBLISHED) <= set(Metrics.__dataclass_fields__)
    for metric, method in COLUMNS:
        assert set(PUBLISHED[metric][method]) == {*FIFTEEN, "mean"}


@pytest.mark.parametrize(("metric", "method"), COLUMNS)
def test_the_mean_of_a_column_is_the_paper_s(metric: str, method: str) -> None:
    column = dict(PUBLISHED[metric][method])
    mean = column.pop("mean")
    there = [value for value in column.values() if value is not None]
    assert all(0 <= value <= 1 for value in there)
    # Each figure is rounded to two decimals, and so is the mean.
    printed = PRINTED_OTHERWISE.get((metric, method), mean)
    assert sum(there) / len(there) == pytest.approx(printed, abs=0.011)


def test_the_rows_that_the_project_is_measured_by() -> None:
    ours = {metric: columns["the paper's"] for metric, columns in PUBLISHED.items()}
    assert [ours[metric]["bottle"] for metric in ours] == [0.99, 0.52, 0.95, 0.99, 0.55]
    assert [ours[metric]["pill"] for metric in ours] == [0.68, 0.24, 0.95, 0.81, 0.20]
    assert PUBLISHED["image_accuracy"]["TI"]["bottle"] is None
