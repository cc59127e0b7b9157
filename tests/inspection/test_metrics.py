"""metrics.prom is read by Prometheus' own parser, and says what run.json says."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.inspection.test_history import summary_of
from tests.support.inspection_by_hand import home, job
from tests.support.simulated_nights import Product
from vqad.inspection import metrics, run_report
from vqad.inspection.comparison import compare
from vqad.inspection.job import InspectJob
from vqad.inspection.summary import InspectSummary

__all__ = ["home", "job"]

ODD = 'a "quoted" \\ name\nof two lines'


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and sorted label values, without the archive."""
    found = {}
    for family in parse(text):
        assert family.type == "gauge"
        assert family.documentation
        for each in family.samples:
            labels = dict(each.labels)
            assert labels.pop("archive") == "s3://factory/*/line1"
            key = (
                each.name.removeprefix("vqad_inspect_"),
                *(labels[name] for name in sorted(labels)),
            )
            assert key not in found
            found[key] = each.value
    return found


def text_of(summary: InspectSummary) -> str:
    job = InspectJob(archive="s3://factory/2026-11-24/line1", models="m", output="o")
    return metrics.text(job, summary)


def test_counts_durations_and_drift_are_read_back() -> None:
    summary = summary_of(6, 2)
    summary.seconds, summary.errors = 4.0, Counter(truncated=1)
    product = Product(rng=np.random.default_rng(0))
    nights: list[dict[str, Any]] = [
        {"statistics": {"pill": product.night(100)}, "model_versions": {"pill": "v"}}
        for _ in range(7)
    ]
    dim = {"pill": product.night(100, light=0.8)}
    summary.comparison = compare(dim, {"pill": "v"}, nights, {})
    found = samples(text_of(summary))
    assert found["images", "pill", "defect"] == 2
    assert found["images", "pill", "normal"] == 6
    assert found["rejects", "truncated"] == 1
    assert found["skipped_images",] == 3
    assert found["images_per_second",] == 2
    assert found["stage_seconds", "fetch"] == 4
    assert found["warnings", "pill", "brightness"] == 1
    assert found["statistic", "pill", "defect_share"] == 0.25
    assert found["drift_ratio", "pill", "earlier_nights", "brightness"] > 1
    assert found["end_timestamp_seconds",] > 1.7e9


def test_any_category_is_a_label() -> None:
    summary = InspectSummary(run="r", by_category={ODD: Counter(normal=1)})
    assert samples(text_of(summary))["images", ODD, "normal"] == 1


def test_it_is_written_beside_run_json(job: InspectJob) -> None:
    run_report.write_run(job, summary_of(1, 0))
    text = Path(job.output, "metrics.prom").read_text()
    assert text.endswith("\n")
    assert [each.name for each in parse(text)].count("vqad_inspect_images") == 1
