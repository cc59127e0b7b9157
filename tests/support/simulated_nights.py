"""Statistics of made-up nights, without images: what `night_statistics` would record of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqad.detection.fit_record import FitRecord
from vqad.detection.normal_statistics import NormalStatistics, half_distance, spread
from vqad.images.measures import MEASURES

NUM_CODES, CELLS, HELD_OUT = 64, 256, 20
DEVIATION = {"brightness": 0.035, "contrast": 0.05, "sharpness": 0.04}  # between images, relative
QUANTILES = (0.25, 0.5, 0.75)


@dataclass(kw_only=True)
class Product:
    """A category whose nights differ by ``spread``, and whose images differ in any night."""

    rng: np.random.Generator
    spread: float = 0.01  # of nights, relative
    defects: float = 0.03  # share
    rejects: float = 0.002
    level: dict[str, float] = field(
        default_factory=lambda: {"brightness": 100.0, "contrast": 40.0, "sharpness": 0.3}
    )
    usual: np.ndarray = field(init=False)  # share of each code
    tilt: np.ndarray = field(init=False)  # how codes change from night to night

    def __post_init__(self) -> None:
        """Choose the codes of the product."""
        shares = np.geomspace(1, 0.001, NUM_CODES)
        self.usual = self.rng.permutation(shares / shares.sum())
        self.tilt = self.rng.standard_normal(NUM_CODES)

    def night(
        self,
        num_images: int,
        *,
        light: float = 1.0,
        focus: float = 1.0,
        foreign: float = 0.0,
    ) -> dict[str, Any]:
        """A night's record; ``foreign`` is the share of the images that are of another product."""
        rng = self.rng
        share = np.clip(self.defects * np.exp(rng.normal(0, 10 * self.spread)), 0, 1)
        num_rejects = int(rng.binomial(num_images, self.rejects))
        judged = num_images - num_rejects
        num_foreign = round(judged * foreign)
        num_defects = int(rng.binomial(judged - num_foreign, share)) + num_foreign
        gains = {"brightness": light, "contrast": light, "sharpness": focus}
        looks = {
            name: self._look(name, judged, num_foreign, gain * np.exp(rng.normal(0, self.spread)))
            for name, gain in gains.items()
        }
        scores = self._scores(judged - num_defects, num_defects)
        return {
            "images": num_images,
            "rejects": num_rejects,
            "defects": num_defects,
            "threshold": 2.0,
            "score_quantiles": {
                f"{each:g}": float(np.quantile(scores, each)) for each in QUANTILES
            },
            **looks,
            "code_counts": self._codes(judged - num_foreign, num_foreign).tolist(),
        }

    def _look(self, name: str, num: int, num_foreign: int, gain: float) -> dict[str, float]:
        values = self.level[name] * gain * (1 + self.rng.normal(0, DEVIATION[name], num))
        values[:num_foreign] *= 1.1
        low, high = np.quantile(values, (0.05, 0.95))
        return {
            "mean": float(values.mean()),
            "deviation": float(values.std(ddof=1)),
            "low": float(low),
            "high": float(high),
        }

    def _scores(self, num_normal: int, num_defect: int) -> np.ndarray:
        usual = 0.8 * np.exp(self.rng.normal(0, 2 * self.spread))
        normal = usual * np.exp(self.rng.normal(0, 0.4, num_normal))
        return np.concatenate([normal, 2.0 + self.rng.exponential(4.0, num_defect)])

    def _codes(self, num_own: int, num_foreign: int) -> np.ndarray:
        tilted = self.usual * np.exp(self.rng.normal(0, 2 * self.spread) * self.tilt)
        counts = np.zeros(NUM_CODES, np.int64)
        for num, shares in ((num_own, tilted), (num_foreign, tilted[::-1])):
            if num:
                of_night = self.rng.dirichlet(200 * num * shares / shares.sum())
                counts += self.rng.multinomial(num * CELLS, of_night)
        return counts

    def training(self) -> FitRecord:
        """The record of a fit on images that were taken on one day."""
        images = np.stack([self._codes(1, 0) for _ in range(HELD_OUT)])
        looks = {
            name: self.level[name]
            * np.exp(self.rng.normal(0, self.spread))
            * (1 + self.rng.normal(0, DEVIATION[name], 10 * HELD_OUT))
            for name in MEASURES
        }
        normal = NormalStatistics(
            num_images=10 * HELD_OUT,
            **{name: spread(values) for name, values in looks.items()},
            num_held_out=HELD_OUT,
            code_counts=images.sum(0).tolist(),
            half_distance=half_distance(images, seed=0),
        )
        scores = self._scores(HELD_OUT, 0).tolist()
        return FitRecord(normal=normal, held_out_scores=scores)
