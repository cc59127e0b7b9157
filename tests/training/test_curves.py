"""Curves of a fit: every record, and a picture whatever script the category's name is in."""

import json

from vqad.training import curves
from vqad.training.loop import Record

RECORDS = [
    Record(
        stage=stage,
        step=step,
        num_steps=20,
        images_per_s=3.0,
        loss=0.5 / step,
        held_out=0.6 / step,
        codes_used=12,
        perplexity=7.0,
    )
    for stage in ("vqvae", "prior")
    for step in (10, 20)
]


def test_both_files_come_with_every_record_and_a_name_in_any_script() -> None:
    found = curves.beside(RECORDS, "Größe 螺丝 $x, tiny")  # a warning would be an error
    lines = [json.loads(line) for line in found["training.jsonl"].splitlines()]
    assert lines == [each.as_dict() for each in RECORDS]
    assert found["training.png"].startswith(b"\x89PNG")
