"""Photographs of drawn products, and archives of them in MVTec AD's layout.

The camera adds everything that a good detector must tolerate: uneven light, a slight colour cast,
sensor noise, small shifts and rotations. A defective picture is the same photograph of the same
product with one flaw. Its mask is where the two differ; outside it they are equal in every bit.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numpy.random import Generator

from vqad.synthetic.products import PRODUCTS, Product
from vqad.synthetic.scenes import Canvas, Pose, Scene, View

Picture = UInt8[np.ndarray, "height_px width_px 3"]
Mask = UInt8[np.ndarray, "height_px width_px"]

KINDS: dict[str, str] = {name: product.kind for name, product in PRODUCTS.items()}

_ENLARGED = 2  # scenes are drawn so many times larger than their photographs
_SHARE_SEEN = 0.01  # least share of the picture that a flaw changes
_STEP_SEEN = 10  # grey levels that count as a change


@dataclass(frozen=True, kw_only=True)
class _Exposure:
    """Light, colour and noise of one photograph."""

    light: Float32[np.ndarray, "height_px width_px"]
    cast: Float32[np.ndarray, "3"]
    noise: Float32[np.ndarray, "height_px width_px 3"]

    def photograph(self, scene: Canvas) -> Picture:
        size = self.light.shape[::-1]
        small = cv2.resize(cv2.merge(list(scene)), size, interpolation=cv2.INTER_AREA)
        seen = small * self.light[..., None] * self.cast + self.noise
        return np.clip(np.round(seen), 0, 255).astype(np.uint8)


def defects(category: str, *, products: Mapping[str, Product] = PRODUCTS) -> tuple[str, ...]:
    """Names of a category's defects, which are its folders in ``test``."""
    return tuple(_product(category, products).flaws)


def draw(
    category: str,
    *,
    size_px: int = 128,
    rng: Generator,
    products: Mapping[str, Product] = PRODUCTS,
) -> Picture:
    """Draw a photograph of one good product, RGB."""
    scene, exposure = _set_up(_product(category, products), size_px, rng)
    return exposure.photograph(scene.image)


def draw_defect(
    category: str,
    defect: str,
    *,
    size_px: int = 128,
    rng: Generator,
    products: Mapping[str, Product] = PRODUCTS,
) -> tuple[Picture, Mask]:
    """Draw a photograph of a product with one flaw, and the flaw's mask (0 or 255).

    Outside the mask, the picture equals in every bit what ``draw`` makes of the same generator.
    """
    product = _product(category, products)
    if defect not in product.flaws:
        raise ValueError(f"unknown defect {defect!r} of {category}: use {_listed(product.flaws)}")
    scene, exposure = _set_up(product, size_px, rng)
    good = exposure.photograph(scene.image)
    for _ in range(100):  # a flaw may be hardly visible where it is; then another one is drawn
        flawed = exposure.photograph(product.flaws[defect](scene, rng))
        mask = _differing(good, flawed)
        if np.mean(mask > 0) >= _SHARE_SEEN:
            return np.where(mask[..., None] > 0, flawed, good), mask
    raise AssertionError(f"{defect} cannot be seen on {category}")


def draw_archive(
    folder: Path,
    *,
    categories: Sequence[str] = tuple(PRODUCTS),
    size_px: int = 128,
    num_train: int,
    num_good: int,
    num_defect: int,
    seed: int = 0,
    products: Mapping[str, Product] = PRODUCTS,
) -> dict[str, int]:
    """Write an archive in MVTec AD's layout; the counts are of pictures in each category.

    The defective pictures take the category's defects in turn. A picture depends only on the seed
    and on its place, so a larger archive contains the smaller one. Returns the number of pictures
    of each category, without masks.
    """
    counts = {"num_train": num_train, "num_good": num_good, "num_defect": num_defect}
    for name, number in {**counts, "seed": seed}.items():
        if number < 0:
            raise ValueError(f"{name} must be at least 0, got {number}")
    chosen = {category: _product(category, products) for category in categories}
    _check_size(size_px)
    for category, product in chosen.items():
        photographer = _Photographer(category, product, size_px, seed)
        photographer.write_good(folder / category / "train", "train", num_train)
        photographer.write_good(folder / category / "test", "test", num_good)
        photographer.write_defects(folder / category, num_defect)
    return dict.fromkeys(categories, sum(counts.values()))


@dataclass(frozen=True)
class _Photographer:
    """Writes the pictures of one category of an archive."""

    category: str
    product: Product
    size_px: int
    seed: int

    def write_good(self, split: Path, role: str, count: int) -> None:
        for number in range(count):
            rng = self._generator(role, number)
            picture = draw(self.category, size_px=self.size_px, rng=rng, products=self._products)
            _write(split / "good" / f"{number:03d}.png", picture)

    def write_defects(self, home: Path, count: int) -> None:
        names = tuple(self.product.flaws)
        for number in range(count):
            lap, place = divmod(number, len(names))
            defect = names[place]
            picture, mask = draw_defect(
                self.category,
                defect,
                size_px=self.size_px,
                rng=self._generator(defect, lap),
                products=self._products,
            )
            _write(home / "test" / defect / f"{lap:03d}.png", picture)
            _write(home / "ground_truth" / defect / f"{lap:03d}_mask.png", mask)

    @property
    def _products(self) -> dict[str, Product]:
        return {self.category: self.product}

    def _generator(self, role: str, number: int) -> Generator:
        """Seeded by the picture's place, equal in every process, as ``hash`` would not be."""
        place = zlib.crc32(f"{self.category}/{role}".encode())
        return np.random.default_rng([self.seed, place, number])


def _write(path: Path, picture: Picture | Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coded, data = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)
    assert coded, path
    path.write_bytes(data.tobytes())


def _set_up(product: Product, size_px: int, rng: Generator) -> tuple[Scene, _Exposure]:
    _check_size(size_px)
    view = View(_ENLARGED * size_px, _posed(product.kind, rng))
    return product.design(view, rng), _exposed(size_px, rng)


def _posed(kind: str, rng: Generator) -> Pose:
    if kind == "texture":
        quarter = float(rng.integers(4)) * 90
        return Pose(degrees=quarter, flipped=bool(rng.integers(2)), zoom=rng.uniform(0.98, 1.02))
    degrees = rng.uniform(0, 360) if kind == "rotatable_object" else rng.uniform(-6, 6)
    right, down = rng.uniform(-0.03, 0.03, 2).tolist()
    return Pose(degrees=degrees, right=right, down=down, zoom=rng.uniform(0.97, 1.03))


def _exposed(size_px: int, rng: Generator) -> _Exposure:
    steps = np.linspace(-1, 1, size_px, dtype=np.float32)
    right, down = rng.uniform(-0.05, 0.05, 2).tolist()
    light = rng.uniform(0.94, 1.06) + right * steps[None, :] + down * steps[:, None]
    cast = rng.uniform(0.99, 1.01, 3).astype(np.float32)
    grain = rng.uniform(1.5, 2.5) * rng.standard_normal((size_px, size_px, 3), dtype=np.float32)
    return _Exposure(light=light, cast=cast, noise=grain)


def _differing(good: Picture, flawed: Picture) -> Mask:
    """The mask of a visible flaw, with small gaps closed."""
    step = cv2.absdiff(good, flawed).max(axis=2)
    seen = np.where(step >= _STEP_SEEN, np.uint8(255), np.uint8(0))
    side = max(len(seen) // 24, 2) | 1
    return cv2.morphologyEx(
        seen, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    )


def _product(category: str, products: Mapping[str, Product]) -> Product:
    if category not in products:
        raise ValueError(f"unknown category {category!r}: use {_listed(products)}")
    return products[category]


def _check_size(size_px: int) -> None:
    if not 32 <= size_px <= 1024:
        raise ValueError(f"size_px must be in [32, 1024], got {size_px}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
