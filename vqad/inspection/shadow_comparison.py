"""The images for which a second detector, the shadow, came to another verdict."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vqad.inspection import sink
from vqad.storage import errors, files, output_layout

_NUM_READERS: Final = 16  # threads
_COLUMNS: Final = [
    *("image", "category", "verdict", "score", "threshold", "model_version", "source_etag", "run")
]
_Pair = tuple[dict[str, Any], dict[str, Any]]  # a row, and the shadow's of the same image


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One image with two verdicts."""

    image: str
    category: str
    verdict: str
    score: float | None
    threshold: float | None
    version: str
    shadow_verdict: str
    shadow_score: float | None
    shadow_threshold: float | None
    shadow_version: str

    @property
    def distance(self) -> float:
        """How far the two are apart, in thresholds; 0 where one of them is a reject."""
        both = (self.score, self.threshold), (self.shadow_score, self.shadow_threshold)
        own, second = (score / limit if score and limit else 0.0 for score, limit in both)
        return abs(own - second)


@dataclass(kw_only=True)
class Compared:
    """The images that both detectors judged, and those of them with two verdicts."""

    images: int = 0
    by_category: Counter[str] = field(default_factory=Counter)  # number of disagreements
    worst: list[Disagreement] = field(default_factory=list)  # those farthest apart first

    @property
    def disagreements(self) -> int:
        """Number of images with two verdicts."""
        return self.by_category.total()


def compare(output: str, *, most: int, category: str = "", shadow_version: str = "") -> Compared:
    """Compare the two tables of an output; at most ``most`` images are listed.

    With ``shadow_version`` only the latest run with that shadow of that category counts. Images
    whose file has changed between the two verdicts are left out. Raises ArchiveError.
    """
    found, listed = Compared(), list[Disagreement]()
    pairs: Iterable[_Pair] = _pairs(output, category)
    if shadow_version:
        pairs = [each for each in pairs if each[1]["model_version"] == shadow_version]
        latest = max((second["run"] for _, second in pairs), default="")
        pairs = [each for each in pairs if each[1]["run"] == latest]
    for own, second in pairs:
        found.images += 1
        if own["verdict"] != second["verdict"]:
            found.by_category[own["category"]] += 1
            listed.append(_disagreement(own, second))
    found.worst = heapq.nsmallest(most, listed, key=lambda each: (-each.distance, each.image))
    return found


def _pairs(output: str, category: str) -> Iterator[_Pair]:
    """The row and the shadow's row of each image that has both, of one state of its file."""
    shadow = output_layout.shadow(output)
    parts = sorted(sink.parts(shadow, "verdicts"))
    if category:
        folder = output_layout.category_folder(category)
        parts = [each for each in parts if output_layout.folder_of_part(each) == folder]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        both = pool.map(lambda part: (_rows(output, part), _rows(shadow, part)), parts)
        for first, second in both:
            for image, row in second.items():
                own = first.get(image)
                if own is not None and own["source_etag"] == row["source_etag"]:
                    yield own, row


def _rows(output: str, part: str) -> dict[str, dict[str, Any]]:
    """The rows of a part by image; none if there is no such part or it is damaged."""
    try:
        uri = output_layout.part(output, "verdicts", part)
        data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
        rows = pq.ParquetFile(pa.BufferReader(data)).read(columns=_COLUMNS).to_pylist()
    except errors.FetchError as failure:
        if failure.error == "missing":
            return {}
        raise
    except Exception:  # a parser may raise any exception for damaged bytes
        return {}
    return {row["image"]: row for row in rows}


def _disagreement(own: dict[str, Any], second: dict[str, Any]) -> Disagreement:
    return Disagreement(
        image=own["image"],
        category=own["category"],
        verdict=own["verdict"],
        score=own["score"],
        threshold=own["threshold"],
        version=own["model_version"],
        shadow_verdict=second["verdict"],
        shadow_score=second["score"],
        shadow_threshold=second["threshold"],
        shadow_version=second["model_version"],
    )
