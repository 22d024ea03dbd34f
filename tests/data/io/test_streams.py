"""Streams are read alike by isal and by zlib, whole, damaged, cut off or followed by something."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from segan_pl.data.io import streams

BODY = np.random.default_rng(0).integers(0, 50, 1 << 20).astype(np.uint8).tobytes()
READERS: dict[str, tuple[bytes, Callable[[bytes, int], bytes | memoryview]]] = {
    "gzip": (gzip.compress(BODY), streams.gunzip),
    "zlib": (zlib.compress(BODY), streams.unzlib),
}


def changed(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :]


def outcome(reader: str, change: Callable[[bytes], bytes], size: int) -> bytes | str:
    raw, read = READERS[reader]
    try:
        return bytes(read(change(raw), size))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("change", "size", "expected"),
    [
        (lambda raw: raw, len(BODY), BODY),
        (lambda raw: raw, len(BODY) - 1, BODY),  # more than announced
        (lambda raw: changed(raw, len(raw) // 2), len(BODY), "stream is damaged"),
        (lambda raw: changed(raw, len(raw) - 2), len(BODY), "stream is damaged"),  # the checksum, or the size
        (lambda raw: changed(raw, 1), len(BODY), ""),
        (lambda raw: raw[:-3], len(BODY), "stream breaks off"),
        (lambda raw: raw[: len(raw) // 2], len(BODY), "stream breaks off"),
        (lambda raw: raw + b"more", len(BODY), "strange bytes follow"),
    ],
)
def test_isal_and_zlib_read_alike(
    reader: str,
    change: Callable[[bytes], bytes],
    size: int,
    expected: bytes | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    isal_zlib = pytest.importorskip("isal.isal_zlib", reason="no wheel of isal for this machine")
    assert streams.deflate is isal_zlib
    found = outcome(reader, change, size)
    monkeypatch.setattr(streams, "deflate", zlib)
    assert found == outcome(reader, change, size)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert expected in found
    else:
        assert found == expected
