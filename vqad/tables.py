"""Arrow schemas of all tables that are written for other programs.

These schemas are promises: columns are only added, at the end. Tables are Parquet files with zstd
compression. The category is a column; ``storage.output_layout`` has the folders and file names.
"""

import pyarrow as pa

SCHEMA_VERSION = "1"
EVALUATION_VERSION = "2"  # 1 had no false_alarm_rate
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


def _text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False)


# One row per image. Regions are in source image pixels; for a reject the numbers are null.
VERDICTS = pa.schema(
    [
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
    ],
    metadata={"vqad.table": "verdicts", "vqad.schema_version": SCHEMA_VERSION},
)

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
    metadata={"vqad.table": "maps", "vqad.schema_version": SCHEMA_VERSION},
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
        pa.field("threshold", pa.float64()),  # grey levels; nats per code for the likelihood
        *(
            pa.field(name, pa.float64())  # in [0, 1]; null where undefined
            for name in (
                *("image_accuracy", "image_auroc", "pixel_auroc", "pro", "au_pro"),
                *("image_f1", "pixel_f1", "image_f1max", "pixel_f1max", "false_alarm_rate"),
            )
        ),
    ],
    metadata={"vqad.table": "evaluation", "vqad.schema_version": EVALUATION_VERSION},
)
