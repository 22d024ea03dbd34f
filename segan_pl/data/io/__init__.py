"""Volumes from and to files; with the clinical pipeline the only place that imports nibabel or SimpleITK.

A reader here trusts nothing: a compressed stream is read to its end (so its checksum is compared), and the header is
held against the bytes that are really there before anything of its size is allocated.
"""

from segan_pl.data.io.reading import (
    DIGEST_BYTES,
    Grid,
    Nonfinite,
    Volume,
    read_channels,
    read_grid,
    read_volume,
    same_affine,
    same_grid,
)
from segan_pl.data.io.writing import write_like, write_volume

__all__ = [
    "DIGEST_BYTES",
    "Grid",
    "Nonfinite",
    "Volume",
    "read_channels",
    "read_grid",
    "read_volume",
    "same_affine",
    "same_grid",
    "write_like",
    "write_volume",
]
