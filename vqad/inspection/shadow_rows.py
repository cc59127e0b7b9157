"""The columns that a detector decides, of the first one and of a second one, its shadow.

This module needs no torch, so that processes which decode and write start without it.
"""

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad import tables

# The columns of a verdict that depend on the detector.
OWN: Final = tuple(
    tables.VERDICTS.field(name)
    for name in (
        *("verdict", "score", "threshold", "codes_changed", "regions"),
        *("model_version", "p_value", "witnesses", "region_lengths_px", "regions_mm"),
    )
)
SHADOW: Final = pa.struct(OWN)


def rejected(version: str) -> dict[str, Any]:
    """The same columns for an image that was not inspected."""
    return {"verdict": "reject", "regions": [], "model_version": version}


def verdicts_of(rows: pa.Table) -> pa.Table:
    """The shadow's verdict rows of inspected rows, for those that it has judged."""
    with_shadow = rows.filter(rows["shadow"].is_valid())
    own = with_shadow["shadow"].combine_chunks()
    columns = {name: with_shadow[name] for name in tables.VERDICTS.names}
    columns |= {each.name: pc.struct_field(own, each.name) for each in OWN}
    return pa.table(columns).select(tables.VERDICTS.names).cast(tables.VERDICTS)
