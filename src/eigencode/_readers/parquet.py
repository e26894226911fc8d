"""What the footer of a Parquet file declares; pyarrow's own list of its columns ends the process on a damaged one."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

_MAGIC = b"PAR1"
_ROW_GROUPS, _COLUMNS, _ABOUT, _VALUES, _BYTES = 4, 1, 3, 5, 6
"""Numbers of the fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData (parquet.thrift)."""

_DEEPEST = 20


def declared_bytes(file: BinaryIO) -> int:
    """Bytes that a file's columns become in memory: eight for each value, however few repeated ones take in the file, or more.

    Args:
        file: Opened for reading; its place is as before afterwards.

    Returns:
        Bytes.

    Raises:
        ValueError: no Parquet file, or a damaged one.
    """
    place = file.tell()
    try:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != _MAGIC or length > size - 8:
            raise ValueError
        file.seek(size - 8 - length)
        about = _Footer(file.read(length)).struct()
        columns = [column[_ABOUT] for group in about[_ROW_GROUPS] for column in group[_COLUMNS]]
        numbers = [number for column in columns for number in (column[_VALUES], column[_BYTES])]
        if min(numbers, default=0) < 0:
            raise ValueError
        return sum(max(8 * values, size) for values, size in zip(numbers[::2], numbers[1::2], strict=True))
    except (LookupError, TypeError, ValueError, struct.error):
        raise ValueError("no Parquet file, or damaged") from None
    finally:
        file.seek(place)


class _Footer:
    """Thrift's compact protocol: structs by the numbers of their fields."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._depth = data, 0, 0

    def struct(self) -> dict[int, Any]:
        """The fields of a struct."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = head & 15 == 1 if head & 15 in (1, 2) else self._value(head & 15)
        self._depth -= 1
        return found

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):  # of a list, a boolean is a byte
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == 8:
            return self._bytes(self._unsigned())
        if kind in (9, 10):
            return self._list()
        if kind == 12:
            return self.struct()
        raise ValueError  # a map, of which Parquet has none

    def _list(self) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        if count > len(self._data) - self._at:
            raise ValueError
        return [self._value(head & 15) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError
        self._at += count
        return self._data[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
