"""Volumes from and to files; the only place that imports nibabel.

A reader here trusts nothing: a compressed stream is read to its end (so its checksum is compared), and the header is
held against the bytes that are really there before anything of its size is allocated.
"""

from segan_pl.data.io.reading import (
    AXES_TOLERANCE,
    DIGEST_BYTES,
    Grid,
    Volume,
    finite,
    held_volume,
    read_channels,
    read_description,
    read_grid,
    read_volume,
    same_affine,
    same_grid,
)
from segan_pl.data.io.writing import write_analyze, write_like, write_volume

__all__ = [
    "AXES_TOLERANCE",
    "DIGEST_BYTES",
    "Grid",
    "Volume",
    "finite",
    "held_volume",
    "read_channels",
    "read_description",
    "read_grid",
    "read_volume",
    "same_affine",
    "same_grid",
    "write_analyze",
    "write_like",
    "write_volume",
]
