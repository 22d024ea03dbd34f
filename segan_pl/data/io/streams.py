"""Compressed streams, read to their end so that their checksums are compared, and never further than announced."""

from __future__ import annotations

import zlib

GZIP = b"\x1f\x8b"
MAX_INFLATION = 1032  # deflate cannot expand more than this


def gunzip(raw: bytes, size: int) -> bytes:
    """All of a gzip stream that should hold `size` bytes.

    Where the stream's own trailer announces that size, it is inflated into one buffer of it, in half the time; a
    crafted stream that lies there could take up to MAX_INFLATION times the file's size before zlib refuses it.

    Raises:
        ValueError: It is damaged or cut off; one that holds more is returned with one byte too many.
    """
    if int.from_bytes(raw[-4:], "little") == size:
        try:
            return zlib.decompress(raw, wbits=31, bufsize=size)
        except zlib.error as error:
            raise ValueError(f"the gzip stream is damaged ({error}); copy or download the file anew") from error
    return gunzip_start(raw, size + 1, whole=True)


def gunzip_start(raw: bytes, limit: int, *, whole: bool = False) -> bytes:
    """At most `limit` bytes out of all members of a gzip stream; with `whole` the end must be reached within them."""
    parts: list[bytes] = []
    size, rest = 0, raw
    try:
        while rest.startswith(GZIP) and size < limit:
            member = zlib.decompressobj(wbits=31)
            parts.append(member.decompress(rest, limit - size))
            size += len(parts[-1])
            if not member.eof:
                if whole and size < limit:
                    raise ValueError(f"the gzip stream breaks off after {size} bytes; copy or download the file anew")
                break
            rest = member.unused_data
    except zlib.error as error:
        raise ValueError(f"the gzip stream is damaged ({error}); copy or download the file anew") from error
    if whole and size < limit and rest.strip(b"\0") and not rest.startswith(GZIP):
        raise ValueError(f"{len(rest)} strange bytes follow the gzip stream; copy or download the file anew")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def unzlib(raw: bytes | memoryview, size: int) -> bytes:
    """All of a zlib stream that should hold `size` bytes, its Adler checksum compared.

    Raises:
        ValueError: It is damaged, cut off, holds another size, or is followed by something.
    """
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(raw, size + 1)
    except zlib.error as error:
        raise ValueError(f"the zlib stream is damaged ({error}); copy or download the file anew") from error
    if not stream.eof and len(body) <= size:
        raise ValueError(f"the zlib stream breaks off after {len(body)} bytes; copy or download the file anew")
    if stream.unused_data:
        raise ValueError(f"{len(stream.unused_data)} strange bytes follow the zlib stream; copy the file anew")
    return body
