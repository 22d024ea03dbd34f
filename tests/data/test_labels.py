"""Label schemes: channels and back, and what a prediction's labels tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.case import CaseError
from segan_pl.data.conventions import CONVENTIONS, fitting_conventions
from segan_pl.data.labels import TARGETS, label_meanings, label_scheme, meaning_line, scheme_with, told_apart
from segan_pl.errors import UsageError
from segan_pl.evaluation.references import target_for


def test_regions_of_brats_are_nested_as_the_challenge_defines_them():
    wt, tc, et = label_scheme("regions").encode(np.array([0, 1, 2, 4], np.uint8))
    assert wt.tolist() == [0, 1, 1, 1]
    assert tc.tolist() == [0, 1, 0, 1]
    assert et.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["regions", "labels"])
def test_a_label_that_is_enhancing_tumour_in_other_years_is_refused_and_never_silently_empty(name):
    with pytest.raises(CaseError, match=r"a: the mask holds label \[3\].*brats2023"):
        label_scheme(name).require_known([0, 1, 2, 3], "a")


@pytest.mark.parametrize(
    ("name", "labels"),
    [("regions", [0, 1, 2, 4]), ("labels", [0, 1, 2, 4]), ("binary", [0, 1]), ("whole_tumour", [0, 1])],
)
def test_encode_then_decode_is_the_identity_on_exportable_labels(name, labels):
    native = np.random.default_rng(0).choice(np.array(labels, np.uint8), (3, 4, 5))
    np.testing.assert_array_equal(label_scheme(name).decode(label_scheme(name).encode(native)), native)


@pytest.mark.parametrize("target", ["whole_tumour", "regions", "labels"])
def test_encoding_is_the_tables_lookup_in_values_and_memory_layout(target):
    """Sums over a target of another layout would round otherwise, and seeded runs would change."""
    scheme = label_scheme(target)
    native = np.random.default_rng(0).integers(256, size=(3, 4, 5, 6), dtype=np.uint8)
    for labels in (native, native[:0], native[1], native[:, ::2]):
        found, expected = scheme.encode(labels), scheme.table()[:, labels]
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8
    assert scheme.encode(native).strides == scheme.table()[:, native].strides
    assert scheme.encode(native).flags.writeable


def test_labels_that_are_not_bytes_are_not_encoded():
    with pytest.raises(ValueError, match="labels are int16, expected uint8"):
        label_scheme("regions").encode(np.zeros((2, 2), np.int16))


def test_softmax_channels_exclude_each_other_and_cover_everything():
    scheme = label_scheme("labels")
    encoded = scheme.encode(np.array(scheme.known, np.uint8))
    assert encoded.sum(0).tolist() == [1] * len(scheme.known)


def test_background_is_not_scored():
    assert label_scheme("labels").foreground == ("necrosis", "oedema", "enhancing")
    assert label_scheme("whole_tumour").foreground == ("wt",)


def test_an_unknown_label_is_refused_with_what_the_scheme_knows():
    label_scheme("whole_tumour").require_known([0, 4], "a")
    with pytest.raises(CaseError, match=r"a: the mask holds label \[4\], 'binary' knows \[0, 1\]"):
        label_scheme("binary").require_known([0, 1, 4], "a")


@pytest.mark.parametrize("name", TARGETS)
def test_every_scheme_has_one_member_list_and_one_export_label_a_channel(name):
    scheme = label_scheme(name)
    assert len(scheme.channels) == len(scheme.members) == len(scheme.export)
    assert {label for members in scheme.members for label in members} <= set(scheme.known)


PAIRS = [
    (target, name)
    for target in TARGETS
    for name in CONVENTIONS
    if target != "binary"
    and (target, name) != ("regions", "binary")
    and (target == "labels" or CONVENTIONS[name].tumour)
]


@given(st.sampled_from(PAIRS), st.lists(st.integers(0, 255), min_size=1, max_size=20))
def test_decoded_channels_encode_to_themselves_under_every_convention(pair, draws):
    scheme = label_scheme(*pair)
    native = np.array([scheme.known[draw % len(scheme.known)] for draw in draws], np.uint8)
    encoded, judged = scheme.encode(native), ~np.isin(native, scheme.ignore)
    np.testing.assert_array_equal(scheme.encode(scheme.decode(encoded))[:, judged], encoded[:, judged])
    np.testing.assert_array_equal(encoded[:, ~judged], -1)
    if pair[0] == "labels" and len(scheme.channels) == len(scheme.known):
        np.testing.assert_array_equal(scheme.decode(encoded), native)


@pytest.mark.parametrize(
    ("name", "labels", "wt", "tc", "et"),
    [
        ("brats2015", [0, 1, 2, 3, 4], [0, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 1]),
        ("brats2023", [0, 1, 2, 3], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]),
        ("brats2024", [0, 1, 2, 3, 4], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 0]),
        ("msd", [0, 1, 2, 3], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]),
    ],
)
def test_regions_of_each_convention_by_hand(name, labels, wt, tc, et):
    encoded = label_scheme("regions", name).encode(np.array(labels, np.uint8))
    assert encoded[:3].tolist() == [wt, tc, et]


@pytest.mark.parametrize(("name", "numbers"), [("iseg", [0, 10, 150, 250]), ("mrbrains13", [0, 1, 2, 3])])
def test_tissues_of_a_healthy_brain_become_labels_and_come_back(name: str, numbers: list[int]) -> None:
    scheme = label_scheme("labels", name)
    assert (scheme.channels, scheme.activation) == (("background", "csf", "gm", "wm"), "softmax")
    native = np.array(numbers, np.uint8)
    np.testing.assert_array_equal(scheme.encode(native), np.eye(4))
    np.testing.assert_array_equal(scheme.decode(np.eye(4)), native)
    assert scheme.convention.tumour == ()


@pytest.mark.parametrize("target", ["whole_tumour", "regions"])
def test_tissues_of_a_healthy_brain_have_no_tumour(target: str) -> None:
    with pytest.raises(UsageError, match=rf"--data.labels {target}: the native labels 'iseg' name no tumour"):
        label_scheme(target, "iseg")


def test_tissues_are_proposed_where_no_tumour_would_fit_or_all_of_them_occur() -> None:
    assert fitting_conventions([0, 1, 2]) == ["brats2015", "brats2017", "brats2023", "brats2024", "msd"]
    assert fitting_conventions([0, 1, 2, 3]) == ["brats2015", "brats2023", "brats2024", "msd", "mrbrains13"]
    assert fitting_conventions([0, 10, 150, 250]) == ["iseg"]
    assert fitting_conventions([7]) == []
    assert fitting_conventions(range(9)) == ["mrbrains13_training", "mrbrains18"]
    assert fitting_conventions(range(11)) == ["mrbrains18"]


def test_what_is_scored_by_default_is_the_most_that_the_labels_tell() -> None:
    targets = {name: target_for(name) for name in ("brats2017", "msd", "binary", "iseg", "mrbrains13")}
    assert targets == {
        "brats2017": "regions", "msd": "regions", "binary": "whole_tumour", "iseg": "labels", "mrbrains13": "labels"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "channels", "wanted", "held"),
    [
        ("whole_tumour/brats2017", None, "regions/brats2017", ("wt",)),
        ("regions/brats2017", None, "regions/brats2017", ("wt", "tc", "et")),
        ("labels/brats2017", None, "regions/brats2017", ("wt", "tc", "et")),
        ("regions/brats2017", None, "labels/brats2017", ("necrosis", "oedema", "enhancing")),
        ("regions/brats2015", None, "labels/brats2015", ("oedema", "enhancing")),  # necrosis and non-enhancing are one
        ("regions/brats2024", ("wt", "tc", "et"), "regions/brats2024", ("wt", "tc", "et")),  # written by one of 2021
        ("whole_tumour/brats2024", None, "labels/brats2024", ()),
        ("regions/brats2017", ("wt", "tc"), "regions/brats2017", ("wt", "tc")),
    ],
)
def test_a_region_is_held_where_its_labels_are_told_from_all_others(
    made: str, channels: tuple[str, ...] | None, wanted: str, held: tuple[str, ...]
) -> None:
    target, _, convention = made.partition("/")
    assert told_apart(scheme_with(target, convention, channels), label_scheme(wanted)) == held


@pytest.mark.parametrize("convention", [name for name, one in CONVENTIONS.items() if one.tumour[1:]])
@pytest.mark.parametrize("made", ["whole_tumour", "regions", "labels"])
@pytest.mark.parametrize("wanted", ["whole_tumour", "regions", "labels"])
def test_exactly_what_is_held_survives_the_way_through_a_file(convention: str, made: str, wanted: str) -> None:
    ours, theirs = label_scheme(made, convention), label_scheme(wanted, convention)
    truth = np.array(ours.known, np.uint8)  # one voxel of each label
    written = ours.decode(ours.encode(truth))
    same = (theirs.encode(written) == theirs.encode(truth)).all(1)
    kept = tuple(name for name, same in zip(theirs.channels, same, strict=True) if same and name in theirs.foreground)
    assert told_apart(ours, theirs) == kept


def test_values_are_named_by_the_tissues_that_they_stand_for() -> None:
    assert label_meanings(label_scheme("regions", "brats2015")) == {
        2: ("oedema",),
        1: ("necrosis", "non_enhancing"),
        4: ("enhancing",),
    }
    whole = label_scheme("whole_tumour", "brats2017")
    assert meaning_line(whole) == "1 is necrosis, oedema or enhancing, which are not told apart"
    assert meaning_line(label_scheme("labels", "iseg")) == "10 is csf; 150 is gm; 250 is wm"


def test_channels_that_no_scheme_has_are_refused() -> None:
    with pytest.raises(CaseError, match="'regions/brats2017' has no channel rc; it has wt, tc, et"):
        scheme_with("regions", "brats2017", ("wt", "rc"))
