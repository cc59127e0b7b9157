"""Arrow schemas of everything that is written for others to read.

The only file to read to know what is promised. Tables are Parquet with zstd; the category is a
column, and the folder of a part is only ``CATEGORY/``: a ``category=`` folder beside the column
makes pandas and pyarrow fail.
"""

from urllib.parse import quote

import pyarrow as pa

SCHEMA_VERSION = "1"
UNKNOWN_CATEGORY = "_unknown"

# Why an image could not be inspected; "" in the rows of those that were.
ERRORS = (
    "empty",  # no bytes
    "unreadable",  # bytes that are no picture, or a broken one
    "truncated",  # a picture that ends early
    "too_large",  # more bytes or pixels than allowed
    "unsupported",  # a picture of a kind that is refused, such as GIF
    "unknown_category",  # no category could be told, or it has no detector
    "missing",  # listed, but gone when it was read
    "denied",  # the store refused to hand it out
    "fetch_failed",  # the store failed, also when asked again
    "archive_truncated",  # the rest of an archive that ends early
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


# One row an image. Regions are in source image pixels; for a reject the numbers are null.
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

# One row an inspected image. The map is row by row, in pixels of the model's input.
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


# One row a category, method and defect type. The metrics are those of `vqad.metrics`.
EVALUATION = pa.schema(
    [
        _text("category"),  # "mean" for the mean of all
        _text("method"),  # "resampling", a baseline or an ablation
        _text("defect_type"),  # "" for all; else its images and the good ones
        pa.field("num_good", pa.int32(), nullable=False),  # images
        pa.field("num_defect", pa.int32(), nullable=False),
        pa.field("num_rejected", pa.int32(), nullable=False),  # left out of the metrics
        pa.field("threshold", pa.float64()),  # grey levels; nats a code for its likelihood
        *(
            pa.field(name, pa.float64())  # in [0, 1]; null where undefined
            for name in (
                *("image_accuracy", "image_auroc", "pixel_auroc", "pro", "au_pro"),
                *("image_f1", "pixel_f1", "image_f1max", "pixel_f1max"),
            )
        ),
    ],
    metadata={"vqad.table": "evaluation", "vqad.schema_version": SCHEMA_VERSION},
)


def category_folder(category: str) -> str:
    """Name of a category's folder: its own, with what could leave the folder percent-encoded.

    So is a dot or underscore at its start: pandas and pyarrow pass such folders over as hidden.
    """
    name = quote(category, safe=" ")
    return f"%{ord(name[0]):02X}{name[1:]}" if name.startswith((".", "_")) else name
