"""The choice of the images that get a card: most severe, nearest to the threshold, and rejects.

The rows of an output are seen once, part by part. For each category only those are kept that may
still be chosen, so memory doesn't grow with the output.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vqad.inspection.verdict_rows import ROWS
from vqad.report.severity import severity

# Shares of a category's cards (guesses). Most severe images get what the others leave.
_SHARE_OF_REJECTS: Final = 1 / 4
_SHARE_OF_BORDERLINE: Final = 1 / 4
# Not more than this share of a category's images is called borderline on either side.
_BORDERLINE_IMAGES: Final = 1 / 20


@dataclass(kw_only=True)
class Candidates:
    """The rows of one category that may get a card."""

    num_cards: int
    num_judged: int = 0  # rows with a score so far
    waiting: list[pa.Table] = field(default_factory=list)
    num_waiting: int = 0

    def add(self, rows: pa.Table) -> None:
        """Add rows of the category; from time to time drop those that have no chance."""
        self.num_judged += len(rows) - rows["score"].null_count
        self.waiting.append(rows)
        self.num_waiting += len(rows)
        if self.num_waiting > 8 * self.num_cards + 1000:
            self._trim()

    def _trim(self) -> None:
        rows = self._all()
        order = _Order.of(rows)
        n = self.num_cards
        kept = {*order.rejects[:n], *order.severe[:n], *order.above[:n], *order.below[:n]}
        self.waiting = [rows.take(pa.array(sorted(kept), pa.int64()))]
        self.num_waiting = len(kept)

    def _all(self) -> pa.Table:
        return pa.concat_tables([ROWS.empty_table(), *self.waiting]).combine_chunks()

    def chosen(self, num_cards: int) -> list[dict[str, Any]]:
        """The rows that get a card, each with ``severity`` and ``borderline``.

        ``num_cards`` is at most that of the candidates.
        """
        rows = self._all()
        order = _Order.of(rows)
        picked = order.picked(num_cards, self.num_judged)
        found = rows.take(pa.array(picked, pa.int64())).to_pylist()
        border = order.borderline(num_cards, self.num_judged)
        severities = [float(order.severities[at]) for at in picked]
        return [
            row | {"severity": each, "borderline": at in border}
            for at, row, each in zip(picked, found, severities, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class _Order:
    """Positions of rows, those that should rather have a card first."""

    severities: np.ndarray
    severe: list[int]  # judged rows, the highest severity first
    above: list[int]  # defects, nearest to the threshold first
    below: list[int]  # normal images, nearest to the threshold first
    rejects: list[int]  # sorted by reason and image

    @classmethod
    def of(cls, rows: pa.Table) -> "_Order":
        severities = severity(rows)
        images = np.array(rows["image"].to_pylist(), object)
        judged = np.flatnonzero(~np.isnan(severities))
        by_image = judged[np.argsort(images[judged])]  # so that ties have one order
        severe = by_image[np.argsort(-severities[by_image], kind="stable")]
        is_defect = np.asarray(pc.equal(rows["verdict"], "defect"))
        rejects = np.flatnonzero(np.isnan(severities))
        reasons = rows["error"].to_pylist()
        return cls(
            severities=severities,
            severe=severe.tolist(),
            above=severe[is_defect[severe]][::-1].tolist(),
            below=severe[~is_defect[severe]].tolist(),
            rejects=sorted(rejects.tolist(), key=lambda at: (reasons[at], images[at])),
        )

    def borderline(self, num_cards: int, num_judged: int) -> set[int]:
        """The images nearest to the threshold on either side."""
        bound = int(num_cards * _SHARE_OF_BORDERLINE / 2)
        number = min(bound, max(1, round(num_judged * _BORDERLINE_IMAGES)))
        return {*self.above[:number], *self.below[:number]} if bound else set()

    def picked(self, num_cards: int, num_judged: int) -> list[int]:
        """The rows that get a card: judged rows by severity, and then the rejects."""
        border = self.borderline(num_cards, num_judged)
        num_judged_cards = num_cards - min(len(self.rejects), int(num_cards * _SHARE_OF_REJECTS))
        others = (at for at in self.severe if at not in border)
        room = max(0, num_judged_cards - len(border))
        taken = border | {at for at, _ in zip(others, range(room), strict=False)}
        rejects = self.rejects[: max(0, num_cards - len(taken))]
        return [at for at in self.severe if at in taken] + rejects
