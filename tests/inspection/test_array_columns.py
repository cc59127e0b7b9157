"""Pixels and maps between numpy and Arrow: every bit, no copy where none is needed."""

import numpy as np
import pyarrow as pa
import pytest

from vqad.inspection.array_columns import rows_of, table_of

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("pixels", pa.large_binary()),
        ("anomaly_map", pa.list_(pa.field("element", pa.float32(), nullable=False))),
    ]
)
RNG = np.random.default_rng(0)
EIGHT_BITS = RNG.integers(0, 256, (4, 6, 3), np.uint8)
SIXTEEN_BITS = RNG.integers(0, 65536, (5, 3, 3), np.uint16)
MAP = RNG.random((7, 2), np.float32)
ROWS = [
    {"image": "a", "pixels": EIGHT_BITS, "anomaly_map": None},
    {"image": "b", "pixels": None},
    # Neither lies in memory row by row.
    {"image": "c", "pixels": SIXTEEN_BITS.transpose(1, 0, 2), "anomaly_map": MAP.T},
]


def test_a_table_has_the_bits_of_the_arrays_in_the_order_of_their_rows() -> None:
    table = table_of(ROWS, SCHEMA)
    table.validate(full=True)
    assert table.schema == SCHEMA
    assert table.to_pylist() == [
        {"image": "a", "pixels": EIGHT_BITS.tobytes(), "anomaly_map": None},
        {"image": "b", "pixels": None, "anomaly_map": None},
        {
            "image": "c",
            "pixels": SIXTEEN_BITS.transpose(1, 0, 2).tobytes(),
            "anomaly_map": MAP.T.ravel().tolist(),
        },
    ]


@pytest.mark.parametrize("rows", [[], [{}], [{"image": "a"}, {"image": "b"}]])
def test_tables_without_any_array_are_valid(rows: list[dict[str, str]]) -> None:
    table = table_of(rows, SCHEMA)
    table.validate(full=True)
    assert table.schema == SCHEMA
    assert len(table) == len(rows)
    assert table["pixels"].null_count == table["anomaly_map"].null_count == len(rows)


def test_rows_share_the_pixels_of_their_table() -> None:
    table = table_of(ROWS, SCHEMA)
    for part in (table, table.slice(2)):  # a slice begins inside the same memory
        data = part["pixels"].chunk(0).buffers()[2]
        rows = list(rows_of(part))
        assert [row["image"] for row in rows] == part["image"].to_pylist()
        for row, value in zip(rows, part["pixels"], strict=True):
            if value.as_py() is None:
                assert row["pixels"] is None
            else:
                assert bytes(row["pixels"]) == value.as_py()
                assert data.address <= row["pixels"].address < data.address + data.size
