"""Curves of a fit: its records as lines of JSON, and as a picture."""

import io
import json
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vqad.storage.models_layout import CURVES
from vqad.training.figure_text import drawable
from vqad.training.loop import Record

_FITTED, _HELD_OUT, _CODES = "#3d6fb4", "#e58a2e", "#3a9d5d"


def beside(records: Sequence[Record], title: str) -> dict[str, bytes]:
    """Both files, by their names in the folder of a detector."""
    return dict(zip(CURVES, (lines(records), picture(records, title)), strict=True))


def lines(records: Sequence[Record]) -> bytes:
    """One JSON object per record, with the names of ``vqad.training.loop.Record``."""
    return "".join(json.dumps(each.as_dict()) + "\n" for each in records).encode()


def picture(records: Sequence[Record], title: str) -> bytes:
    """PNG: error and codes in use of the VQ-VAE, and likelihood of the prior, over their steps."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    shown = drawable(title)
    figure.suptitle(shown.pop("text"), **shown)
    error, codes, nats = figure.subplots(1, 3)
    vqvae = [each for each in records if each.stage == "vqvae"]
    prior = [each for each in records if each.stage == "prior"]
    errors = {"loss, fitted": "loss", "squared error, held out": "held_out"}
    _draw(error, vqvae, "VQ-VAE", errors, log=True)
    _draw(codes, vqvae, "codes", {"in use": "codes_used", "perplexity": "perplexity"})
    _draw(nats, prior, "prior: nats per code", {"fitted": "loss", "held out, best": "held_out"})
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _draw(
    panel: Axes, records: Sequence[Record], label: str, values: dict[str, str], *, log: bool = False
) -> None:
    steps: list[Any] = [each.step for each in records]
    for name, value in values.items():
        colour = {"held_out": _HELD_OUT, "codes_used": _CODES}.get(value, _FITTED)
        panel.plot(steps, [getattr(each, value) for each in records], color=colour, label=name)
    if log and records:
        panel.set_yscale("log")
    panel.set(xlabel="step", title=label)
    if records:
        panel.legend(frameon=False)
