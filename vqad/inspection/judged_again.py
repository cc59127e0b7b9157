"""New verdicts and regions for rows that are there, from their stored scores and maps.

This takes seconds, because nothing is inspected. Maps do not depend on the threshold, so only the
verdicts of a part are written again, in one write. A map keeps its version, which is then an older
one than that of its verdict.

A row keeps its old version where its regions need a map that was not kept, or that does not have
the score of the row, as those of the form full that an older version of this program stored.
`inspect --redo changed` inspects its image.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vqad import tables
from vqad.array_types import AnomalyMap
from vqad.detection import score
from vqad.detection.p_value import p_value
from vqad.detection.same_fit import SameFit
from vqad.detection.settings import Settings
from vqad.inspection import sink
from vqad.inspection.part_maps import PartMaps
from vqad.inspection.region_columns import region_columns
from vqad.storage import files, lease, output_layout

_NUM_WORKERS: Final = 4  # threads; each has one part in memory

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Numbers of rows of a category."""

    updated: int = 0  # judged by the new version now
    to_defect: int = 0  # of these
    to_normal: int = 0
    kept_old: int = 0  # need an inspection
    by_other_detectors: int = 0  # left alone
    done_before: int = 0  # judged by the new version already
    damaged_parts: int = 0  # passed over

    def __add__(self, other: "Applied") -> "Applied":
        """The sums."""
        names = [each.name for each in fields(Applied)]
        return Applied(**{each: getattr(self, each) + getattr(other, each) for each in names})


def apply(output: str, fit: SameFit, held: lease.Lease) -> Applied:
    """Judge the rows of the versions of a fit again by one of them, which ``fit`` names.

    Raises ArchiveError, and LeaseLostError where the lease on the output is lost.
    """
    folder = output_layout.category_folder(fit.settings.category)
    parts = sorted(
        part
        for part in sink.parts(output, "verdicts")
        if output_layout.folder_of_part(part) == folder
    )

    def applied(part: str) -> Applied:
        held.check()
        return _apply_to_part(output, part, fit, held.holder)

    with ThreadPoolExecutor(_NUM_WORKERS) as pool:
        try:
            return sum(pool.map(applied, parts), Applied())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _apply_to_part(output: str, part: str, fit: SameFit, holder: str) -> Applied:
    verdicts = _read(output, part)
    if verdicts is None:
        return Applied(damaged_parts=1)
    versions = verdicts["model_version"].to_pylist()
    todo = [
        at
        for at, version in enumerate(versions)
        if version in fit.versions and version != fit.version
    ]
    counted = Applied(
        done_before=versions.count(fit.version),
        by_other_detectors=sum(each not in fit.versions for each in versions),
    )
    if not todo:
        return counted
    rows = verdicts.to_pylist()
    maps = PartMaps(output, part)
    judged = {at: _judge(rows[at], maps, fit) for at in todo}
    new = {at: row for at, row in judged.items() if row is not None}
    old = [rows[at]["verdict"] for at in new]
    for at, row in new.items():
        rows[at] = row
    if new:
        lease.confirm(output, holder)
        table = pa.Table.from_pylist(rows, schema=verdicts.schema)
        sink.rewrite_verdicts(output, part, table)
    changes = [(one, row["verdict"]) for one, row in zip(old, new.values(), strict=True)]
    return counted + Applied(
        updated=len(new),
        to_defect=changes.count(("normal", "defect")),
        to_normal=changes.count(("defect", "normal")),
        kept_old=len(todo) - len(new),
    )


def _read(output: str, part: str) -> pa.Table | None:
    """A part with the columns of its own version; None if it can't be read as one of verdicts."""
    uri = output_layout.part(output, "verdicts", part)
    data = files.read_bytes(uri, max_bytes=sink.LARGEST_PART_BYTES)
    try:
        found = pq.read_table(pa.BufferReader(data))
        version = tables.verdicts_version(found.schema)
        if version is None:
            return None
        schema = tables.VERDICTS_BY_VERSION[version]
        return found.select(schema.names).cast(schema)
    except Exception:  # a parser may raise any exception for damaged bytes
        return None


def _judge(row: Row, maps: PartMaps, fit: SameFit) -> Row | None:
    """The row as the new version gives it; None if an inspection is needed for that."""
    settings, threshold = fit.settings, fit.settings.threshold
    common = row | {"model_version": fit.version, "inspected_at": datetime.now(UTC)}
    if row["score"] is None:  # a reject, whatever the threshold is
        return common
    verdict = score.verdict(row["score"], threshold)
    found: list[score.Region] = []
    if verdict == "defect":
        anomaly_map = _map_of(row, maps, settings)
        if anomaly_map is None:
            return None
        found = score.regions(
            anomaly_map,
            threshold=threshold,
            minimum_area_px=_area_px(anomaly_map, row, settings),
            source_width_px=row["width_px"],
            source_height_px=row["height_px"],
        )
    judged = {
        "verdict": verdict,
        "threshold": threshold,
        **region_columns(found, settings),
        "p_value": p_value(row["score"], fit.settings.normal_scores),
    }
    return common | {name: value for name, value in judged.items() if name in row}


def _map_of(row: Row, maps: PartMaps, settings: Settings) -> AnomalyMap | None:
    """The map of a row; None without one that has the score of the row."""
    found = maps.of(row["image"])
    if found is None or settings.form != "full":
        return found
    level = score.score(found, minimum_area_px=_area_px(found, row, settings))
    return found if level == row["score"] else None


def _area_px(anomaly_map: AnomalyMap, row: Row, settings: Settings) -> int:
    source_px = row["width_px"], row["height_px"]
    return settings.minimum_map_area_px(anomaly_map.shape, source_px=source_px)
