"""`vqad bench inspect` on a machine without Ray."""

from collections.abc import Callable

import pytest

from jobs import bench
from tests.support.commands import Ended


def test_bench_inspect_measures_all_but_the_pipeline_without_ray(
    vqad: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_has_ray", lambda: False)
    sizes = ("--preset", "tiny", "--limit", 4, "--batch-size", 4, "--source-size-px", 128)
    ended = vqad("bench", "inspect", *sizes, "--precision", "bfloat16")
    assert ended.code == 0, ended.err
    assert ended.summary["detector_images_per_s"] > 0
    assert ended.summary["precision"] == "bfloat16"
    assert "number format: bfloat16" in ended.err
    assert "pipeline_images_per_s" not in ended.summary
    assert "pipeline: not measured, because Ray is not installed" in ended.err
