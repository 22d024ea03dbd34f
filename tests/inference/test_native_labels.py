"""Segmentations in the data set's own labels, or refused where a value would change its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from segan_pl.data.labels import label_scheme
from segan_pl.errors import UsageError
from segan_pl.inference.native_labels import convention_for, in_convention


def test_regions_of_2017_are_never_written_as_the_cavity_of_2024() -> None:
    scheme = label_scheme("regions", "brats2017")
    assert convention_for(scheme, "brats2024") == "brats2024"
    written = in_convention(scheme, "brats2024")
    assert (written.channels, written.export) == (("wt", "tc", "et"), (2, 1, 3))
    mask = np.ones((3, 1, 1, 1), np.uint8)
    assert written.decode(mask).item() == 3
    assert scheme.decode(mask).item() == 4


def test_labels_are_matched_by_name_where_their_order_differs() -> None:
    scheme = label_scheme("labels", "brats2017")  # background, necrosis, oedema, enhancing
    assert in_convention(scheme, "msd").export == (0, 2, 1, 3)
    assert convention_for(scheme, "msd") == "msd"
    label = np.array([[[0, 1, 2, 3]]], np.uint8)
    written = in_convention(scheme, "msd")
    np.testing.assert_array_equal(written.decode(written.encode(label)), label)


@pytest.mark.parametrize(
    ("own", "theirs", "said"),
    [
        ("regions/brats2017", "binary", "1 is necrosis in the checkpoint's 'brats2017' but tumour there"),
        ("regions/brats2024", "brats2017", "4 is cavity in the checkpoint's 'brats2024' but enhancing there"),
        ("labels/brats2015", "msd", "1 is necrosis in the checkpoint's 'brats2015' but oedema there"),
    ],
)
def test_a_value_that_would_change_its_meaning_is_refused(own: str, theirs: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"{said}; say which to write: --native_labels {own.split('/')[1]}"):
        convention_for(label_scheme(own), theirs)


def test_the_checkpoints_own_labels_are_written_where_they_mean_the_same() -> None:
    assert convention_for(label_scheme("labels/brats2015"), "brats2017") == "brats2015"  # 3 is nothing in 2017
    with pytest.raises(UsageError, match="the checkpoint predicts non_enhancing too"):
        in_convention(label_scheme("labels/brats2015"), "brats2017")
