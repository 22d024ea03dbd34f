"""Series compressed by classic JPEG, as older archives hold them: read, and brought through the command."""

from __future__ import annotations

import base64
import importlib
import io
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.clinical.search import find_series
from segan_pl.clinical.series import read_series
from segan_pl.data.io import held_volume, read_volume
from tests.cohort import QUIET
from tests.generators.dicom import write_series

pytest.importorskip("highdicom")
pytestmark = QUIET
Y, X = np.indices((16, 16))
FRAME = np.rint(2000 + 1900 * np.sin(X / 5) * np.cos(Y / 6))
# FRAME as DCMTK 3.6.7 encodes it: dcmcjpeg +ee, +el and +e1. No package of the extras writes these; with loss, DCMTK
# takes the least value off all.
ENCODED = {
    "JPEGExtended12Bit": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMU"
        "FRUVDA8XGBYUGBIUFRT/wQALDAAQABABAREA/8QAFwAAAwEAAAAAAAAAAAAAAAAACAkKDP/EACUQAAAFAgYDAQEAAAAAAAAAAAEC"
        "AwQFBgcACAkKCxESUWExQf/aAAgBAQAAPwC2bgcd7lls0CtLqzFD3UrSHgn0XBtEFE3zkiYgJUygP6PzDZuaV3/2VTW00hrtW+tt"
        "XkHMyEjT7pummzdJnMImSMH8H7jEO7xLl4682VGYSqrP07dh1RqNOu1WZUUpAUQL4GEvXQCHrA3bVPm0bi7unMzTVkJ68zuq0J56"
        "mxFBWSFYDAcwF668h94////Z"
    ),
    "JPEGLossless": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAHgAAAwADAQEBAQEAAAAAAAAABgcIAAQFAwkCAQ//2gAIAQEABgAA"
        "/wAHz/rz9a/qb9Irsqxy9sOQsfwF8z/lR8j88vDV1NPR0tLT1Nbx8/5maHI4Y6Mi4uMDI/xOVpeH7zijQeEAK+Xq+AwgSHOTrfvB"
        "0MX6zVanUinVi2ARHgaPtgoBK9QphIpBIplSLMEGef64GrZRpJDT/PqARKUU67EuZ74Dq5MIaeJwm6cp7RKcWgbyffARUJCfZume"
        "Y5nnBApVXBXJ2MAVIjJ2mmX5dmCbJ7SKqCOPs4AKRFTvM0uy5L80z0j1SD8fYwBUqNneaZgl2YpsnxIqsI4+xgIqUjP04TPMs0zk"
        "gUurgrkbGBCwTKHnqcpwnOfUUnlqHcrYwOXCkSqIQSAQSKTCoXgpzPfBYCWSjTSUSSVTimWoONc/1//Z"
    ),
    "JPEGLosslessSV1": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAHQAAAgMBAQEBAQAAAAAAAAAABwgFBgkABAMCD//aAAgBAQABAAD+"
        "D5+vOtepukT2NYZZunAVP0CzPyoyP7XTWbUjR56WpMk3TwMoSDZp5W5J9rLqtp3ok77RGCaqAMUpEM4Muso+1L0+0kf9z2XLMxVA"
        "mq6Q565pZd9pTo5oM8jcsQT5asB9aE5RDPHN7n+fR33DZ86ESSrwtX5VUzRhB+cxxG0ZxgC7d/dCjwMLsrajJxzKMewZyLpDtHrj"
        "KcNA4B14W7iyVScRbvaZf7+OCqVEG4vFHTczMSkj7Pv+vx5vFGxMPC9W65X4SIjvN+Pr7JKYnbDY+DohFIzoVShfh7bBcSETyyX+"
        "WJaF1AwdG9V8kpcygaT8x7M8laaKIri9h6jeCcIhsY5qnBc/s+kFRlN1cBA5jLEVWEa50ntf/s0c3M9UWUJdRdE2gxMy5b56J6T/"
        "AP/Z"
    ),
}


def baseline() -> bytes:
    """FRAME's upper 8 bits as Pillow encodes them, with loss."""
    image, held = importlib.import_module("PIL.Image"), io.BytesIO()
    image.fromarray((FRAME / 16).astype(np.uint8)).save(held, "JPEG", quality=95)
    return held.getvalue()


def write_compressed(folder: Path, syntax: str) -> np.ndarray:
    """A series of three equal slices, and what was encoded."""
    pydicom = importlib.import_module("pydicom")
    stack = held_volume(np.stack([FRAME] * 3).astype(np.float32), np.diag([-1.0, -1.0, 5.0, 1.0]))
    bits = 8 if syntax == "JPEGBaseline8Bit" else 12
    stored = {"BitsAllocated": 8 if bits == 8 else 16, "BitsStored": bits, "HighBit": bits - 1}
    for file in write_series(folder, stack, "t2", changes=stored):
        one = pydicom.dcmread(file)
        frame = baseline() if bits == 8 else base64.b64decode(ENCODED[syntax])
        one.PixelData = pydicom.encaps.encapsulate([frame])
        one["PixelData"].VR = "OB"
        one.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        one.save_as(file)
    return {"JPEGBaseline8Bit": FRAME // 16, "JPEGExtended12Bit": FRAME - FRAME.min()}.get(syntax, FRAME)


@pytest.mark.parametrize(
    ("syntax", "loss"),
    [("JPEGBaseline8Bit", 3), ("JPEGExtended12Bit", 16), ("JPEGLossless", 0), ("JPEGLosslessSV1", 0)],
)
def test_classic_jpeg_is_read_and_goes_through_the_command(tmp_path: Path, syntax: str, loss: int) -> None:
    encoded = write_compressed(tmp_path / "in" / "series", syntax)
    (series,), _ = find_series(tmp_path / "in")
    found = read_series(series)
    assert found.shape == (3, 16, 16)
    for slice_ in found.array:
        np.testing.assert_allclose(slice_, encoded, atol=loss)
    assert main(["clinical", f"--root={tmp_path / 'in'}", f"--output={tmp_path / 'out'}", "--brain=none"]) == 0
    case = read_volume(tmp_path / "out" / "cases" / "P001_v1" / "P001_v1_t2.nii.gz")
    # slices of 5 mm are resampled to 1 mm: each voxel column runs through equal slices
    np.testing.assert_allclose(case.array[case.shape[0] // 2], found.array[1], atol=1e-3)
