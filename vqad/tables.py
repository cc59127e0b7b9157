"""Arrow schemas of all tables that are written for other programs.

These schemas are promises: columns are only added, at the end, and may be null there. Tables are
Parquet files with zstd compression. The category is a column; ``storage.output_layout`` has the
folders and file names.

The schema version is in the metadata of each file. All parts of an output should have one version:
readers such as DuckDB and Polars then open the whole folder without an option. So a run goes on in
the version of the parts that it finds, and a part keeps its version when some rows are replaced.
"""

from typing import Final

import pyarrow as pa

VERDICTS_VERSION = "3"  # 1 had no p_value and no witnesses, 1 and 2 no lengths of regions
MAPS_VERSION = "1"
PARTS_VERSION = "1"
EVALUATION_VERSION = "3"  # 1 had no false_alarm_rate, 1 and 2 no recall
UNKNOWN_CATEGORY = "_unknown"

# The reason why an image was rejected; "" in all other rows.
ERRORS = (
    "empty",  # no bytes
    "unreadable",  # not a picture, or a corrupt one
    "truncated",  # a picture that ends early
    "too_large",  # has more bytes or pixels than allowed
    "unsupported",  # a format or kind of picture that is not read, such as GIF
    "unknown_category",  # has no category, or a category without a detector
    "missing",  # was listed, but gone when it was read
    "denied",  # the storage refused to let it be read
    "fetch_failed",  # the storage failed, also when tried again
    "archive_truncated",  # all members after the point where an archive breaks off
)

_TIME = pa.timestamp("us", tz="UTC")

REGION = pa.struct(
    [
        pa.field("x_px", pa.int32(), nullable=False),
        pa.field("y_px", pa.int32(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("area_px", pa.int32(), nullable=False),
        pa.field("peak", pa.float32(), nullable=False),
    ]
)

REGION_MM = pa.struct(
    [
        pa.field(name, pa.float32(), nullable=False)
        for name in ("x_mm", "y_mm", "width_mm", "height_mm", "area_mm2", "length_mm")
    ]
)

WITNESS = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("share", pa.float32(), nullable=False),  # in [0, 1]
    ]
)


def _text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False)


def _verdicts(version: str, columns: list[pa.Field]) -> pa.Schema:
    metadata = {"vqad.table": "verdicts", "vqad.schema_version": version}
    return pa.schema(columns, metadata=metadata)


_VERDICTS_1 = [
    _text("image"),
    _text("category"),
    _text("verdict"),
    pa.field("score", pa.float32()),
    pa.field("threshold", pa.float32()),
    pa.field("codes_changed", pa.int32()),
    pa.field("regions", pa.list_(pa.field("element", REGION, nullable=False)), nullable=False),
    pa.field("width_px", pa.int32()),
    pa.field("height_px", pa.int32()),
    _text("error"),
    _text("error_detail"),
    _text("model_version"),
    _text("source_etag"),
    pa.field("source_bytes", pa.int64()),
    pa.field("source_modified_at", _TIME),
    pa.field("inspected_at", _TIME, nullable=False),
    _text("run"),
]
_VERDICTS_2 = [
    *_VERDICTS_1,
    # Share of normal images, in (0, 1], whose score is at least this one; see `detection.p_value`.
    # Null where the detector's record has no scores of normal images.
    pa.field("p_value", pa.float32()),
    # Share of each witness in the score, in the order of the detector; null in the forms without.
    pa.field("witnesses", pa.list_(pa.field("element", WITNESS, nullable=False))),
]

_VERDICTS_3 = [
    *_VERDICTS_2,
    # The largest distance between two points of each region, in source image pixels, in the order
    # of `regions`; null for a reject.
    pa.field("region_lengths_px", pa.list_(pa.field("element", pa.float32(), nullable=False))),
    # The regions in millimetres, in the same order; null where the detector's record does not say
    # how many pixels a millimetre has.
    pa.field("regions_mm", pa.list_(pa.field("element", REGION_MM, nullable=False))),
]

# One row per image. Regions are in source image pixels; for a reject the numbers are null.
VERDICTS_BY_VERSION: Final = {
    "1": _verdicts("1", _VERDICTS_1),
    "2": _verdicts("2", _VERDICTS_2),
    VERDICTS_VERSION: _verdicts(VERDICTS_VERSION, _VERDICTS_3),
}
VERDICTS = VERDICTS_BY_VERSION[VERDICTS_VERSION]


def verdicts_version(schema: pa.Schema) -> str | None:
    """The latest version whose columns a schema has; None if it is not one of verdicts.

    More columns are no obstacle, nor is a type of another program for the same values.
    """
    for version in sorted(VERDICTS_BY_VERSION, key=int, reverse=True):
        wanted = VERDICTS_BY_VERSION[version]
        try:
            schema.empty_table().select(wanted.names).cast(wanted)
        except (KeyError, ValueError, TypeError, pa.ArrowException):
            continue
        return version
    return None


# One row per inspected image. The map is row by row, in pixels of the model's input.
MAPS = pa.schema(
    [
        _text("image"),
        _text("category"),
        _text("model_version"),
        pa.field("map_height_px", pa.int32(), nullable=False),
        pa.field("map_width_px", pa.int32(), nullable=False),
        pa.field(
            "anomaly_map",
            pa.list_(pa.field("element", pa.float32(), nullable=False)),
            nullable=False,
        ),
    ],
    metadata={"vqad.table": "maps", "vqad.schema_version": MAPS_VERSION},
)


# One row per part of a product, of which there may be several pictures.
PARTS = pa.schema(
    [
        _text("category"),
        _text("part"),  # its name, the first group of --part-pattern
        _text("verdict"),  # defect if an image is one, else reject if one is, else normal
        _text("image"),  # the worst: a reject, or the highest score of the part's verdict
        pa.field("score", pa.float32()),  # of that image; null for a reject
        pa.field("num_images", pa.int32(), nullable=False),
        pa.field("num_rejects", pa.int32(), nullable=False),
        _text("run"),  # the latest that inspected an image of the part
    ],
    metadata={"vqad.table": "parts", "vqad.schema_version": PARTS_VERSION},
)


# One row per category, method and defect type. `vqad.evaluation.metrics` computes the metrics.
EVALUATION = pa.schema(
    [
        _text("category"),  # "mean" for the mean of all
        _text("method"),  # "resampling", a baseline or an ablation
        _text("defect_type"),  # images of this type and good ones; "" for all types
        pa.field("num_good", pa.int32(), nullable=False),  # images
        pa.field("num_defect", pa.int32(), nullable=False),
        pa.field("num_rejected", pa.int32(), nullable=False),  # left out of the metrics
        pa.field("threshold", pa.float64()),  # in the method's unit: grey levels, nats, deviations
        *(
            pa.field(name, pa.float64())  # in [0, 1]; null where undefined
            for name in (
                *("image_accuracy", "image_auroc", "pixel_auroc", "pro", "au_pro"),
                *("image_f1", "pixel_f1", "image_f1max", "pixel_f1max", "false_alarm_rate"),
                "recall",
            )
        ),
    ],
    metadata={"vqad.table": "evaluation", "vqad.schema_version": EVALUATION_VERSION},
)
