"""Values of columns of bytes, without a copy."""

import pyarrow as pa
import pytest

from vqad.images.value_buffers import value_buffers

VALUES = [b"abc", None, b"", b"defg"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_values_share_the_memory_of_their_column(kind: pa.DataType) -> None:
    whole = pa.array(VALUES, kind)
    data = whole.buffers()[2]
    for column, expected in (
        (whole, VALUES),
        (whole.slice(1), VALUES[1:]),
        (pa.chunked_array([whole, whole.slice(3)]), [*VALUES, b"defg"]),
        (whole.slice(4), []),
    ):
        found = list(value_buffers(column))
        assert [each and each.to_pybytes() for each in found] == [each or each for each in expected]
        for each in found:
            assert not each or data.address <= each.address < data.address + data.size


@pytest.mark.parametrize("values", [[], [None], [b"", None]])
def test_columns_without_a_byte_have_their_values(values: list[bytes | None]) -> None:
    found = value_buffers(pa.array(values, pa.large_binary()))
    assert [each if each is None else each.to_pybytes() for each in found] == values
