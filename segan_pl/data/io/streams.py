"""Compressed streams, read to their end so that their checksums are compared, and never further than announced."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any

import numpy as np

deflate: Any = zlib
# zlib's streams and checksums in half its time
with suppress(ImportError):  # no wheel for this machine
    from isal import isal_zlib as deflate

GZIP = b"\x1f\x8b"
# What zlib calls the two kinds of stream.
GZIP_BITS, ZLIB_BITS = 31, 15
# Bytes; measured: 128 to 512 kB are alike, less and more are slower.
SLICE = 1 << 18
# Deflate cannot expand more than this.
MAX_INFLATION = 1032


def gunzip(raw: bytes, size: int) -> bytes | memoryview:
    """All of a gzip stream that should hold `size` bytes.

    Raises:
        ValueError: It is damaged or cut off; one that holds more is returned with one byte too many.
    """
    if int.from_bytes(raw[-4:], "little") == size and (body := _one_stream(raw, size, GZIP_BITS)) is not None:
        return body
    return gunzip_start(raw, size + 1, whole=True)


def _one_stream(raw: bytes | memoryview, size: int, wbits: int) -> memoryview | None:
    """What a single sound stream of exactly `size` bytes holds, its checksum compared; None if `raw` is anything else.

    It is inflated a slice at a time, out of and into the processor's cache, to a buffer of the size that the header
    announces, and never beyond it: as fast as one call of zlib that is told the size, and twice as fast as one that
    is not. Memory is touched only as far as bytes come.
    """
    stream, rest = deflate.decompressobj(wbits=wbits), memoryview(raw)
    body, filled = np.empty(size, np.uint8).data, 0
    try:
        while rest and not stream.eof:
            part = stream.decompress(rest[:SLICE], size + 1 - filled)
            if filled + len(part) > size:
                return None
            body[filled : filled + len(part)] = part
            filled += len(part)
            rest = rest[SLICE:]
    except deflate.error:
        return None  # zlib says below what is wrong
    whole = stream.eof and filled == size and not rest and not stream.unused_data
    return body if whole else None


def _damaged(kind: str, error: zlib.error) -> ValueError:
    return ValueError(f"the {kind} stream is damaged ({error}); copy or download the file again")


def gunzip_start(raw: bytes, limit: int, *, whole: bool = False) -> bytes:
    """At most `limit` bytes out of all members of a gzip stream; with `whole` the end must be reached within them."""
    parts: list[bytes] = []
    size, rest = 0, raw
    try:
        while rest.startswith(GZIP) and size < limit:
            member = zlib.decompressobj(wbits=GZIP_BITS)
            parts.append(member.decompress(rest, limit - size))
            size += len(parts[-1])
            if not member.eof:
                if whole and size < limit:
                    raise ValueError(f"the gzip stream breaks off after {size} bytes; copy or download the file again")
                break
            rest = member.unused_data
    except zlib.error as error:
        raise _damaged("gzip", error) from error
    if whole and size < limit and rest.strip(b"\0") and not rest.startswith(GZIP):
        raise ValueError(f"{len(rest)} strange bytes follow the gzip stream; copy or download the file again")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def unzlib(raw: bytes | memoryview, size: int) -> bytes | memoryview:
    """All of a zlib stream that should hold `size` bytes, its Adler checksum compared.

    Raises:
        ValueError: It is damaged, cut off, holds another size, or is followed by something.
    """
    if (whole := _one_stream(raw, size, ZLIB_BITS)) is not None:
        return whole
    stream = zlib.decompressobj(wbits=ZLIB_BITS)
    # the same bytes again, to say what is wrong
    try:
        body = stream.decompress(raw, size + 1)
    except zlib.error as error:
        raise _damaged("zlib", error) from error
    if not stream.eof and len(body) <= size:
        raise ValueError(f"the zlib stream breaks off after {len(body)} bytes; copy or download the file again")
    if stream.unused_data:
        raise ValueError(f"{len(stream.unused_data)} strange bytes follow the zlib stream; copy the file again")
    return body
