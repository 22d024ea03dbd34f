"""Conventions that a user states himself, and labels that are not judged."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.cohort import find_cohort
from segan_pl.data.conventions import CONVENTIONS, label_convention
from segan_pl.data.labels import label_scheme, meaning_line
from segan_pl.errors import UsageError
from segan_pl.inference.native_labels import in_convention

OWN = "{csf: [5, 6], gm: [1, 2], thalamus: 9, ignore: [7, 8]}"


def test_a_mapping_its_text_and_its_file_are_one_convention(tmp_path: Path) -> None:
    for name, text in (("own.yaml", "background: 0\nCSF: [5, 6]\nGrey matter: [1, 2]\nThalamus: 9\nignore: [7, 8]\n"),
                       ("own.json", '{"csf": [5, 6], "gm": [1, 2], "thalamus": 9, "ignore": [7, 8]}')):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert label_convention(str(tmp_path / name)) == label_convention(OWN)
    mapping = {"csf": [5, 6], "gm": [1, 2], "thalamus": 9, "ignore": [7, 8]}
    assert label_convention(mapping) == label_convention(OWN)
    assert label_convention(OWN).name == OWN  # which a checkpoint and a table hold


def test_a_tumour_is_one_in_either_spelling() -> None:
    for word in ("tumour", "Tumor", "tumors"):
        assert label_scheme("whole_tumour", f"{{{word}: 3}}").members == ((3,),)


def test_a_stated_convention_makes_channels_and_comes_back_by_its_first_label() -> None:
    scheme = label_scheme("labels", OWN)
    assert label_scheme(scheme.name) == scheme
    assert scheme.channels == ("background", "csf", "gm", "thalamus")
    native = np.array([[0, 5, 6, 1, 2, 9, 7, 8]], np.uint8)
    encoded = scheme.encode(native)
    assert encoded.dtype == np.int8
    assert encoded[1].tolist() == [[0, 1, 1, 0, 0, 0, -1, -1]]
    assert scheme.decode(encoded).tolist() == [[0, 5, 5, 1, 1, 9, 0, 0]]
    assert meaning_line(scheme) == "1 is gm; 5 is csf; 9 is thalamus"
    assert scheme.foreground_labels == (1, 2, 5, 6, 9)  # none of the ignored


def test_without_labels_to_ignore_channels_are_bytes_as_ever() -> None:
    scheme = label_scheme("labels", "mrbrains13")
    native = np.array([0, 1, 2, 3], np.uint8)
    assert scheme.encode(native).dtype == np.uint8
    np.testing.assert_array_equal(scheme.encode(native), scheme.table()[:, native])


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{csf: 1", "is no YAML"),
        ("none.yaml", r"cannot be read \(No such file or directory\)"),
        ("brats2022", "unknown; .*or a YAML file, or a mapping of names to labels"),
        ("{csf: one}", "'csf' is 'one'; expected a mapping of names to labels"),
        ("{csf: 256}", "'csf' is 256; expected .* from 0 to 255"),
        ("{csf: true}", "'csf' is True"),
        ("{csf: 1, gm: [1, 2]}", "label 1 is 'csf' and 'gm'; expected one name for each label"),
        ("{csf: 0}", "'csf' is 0; expected the background to be 0"),
        ("{background: 1, csf: 2}", "'background' is 1; expected the background to be 0"),
        ("{ignore: 3}", "names no tissue"),
        ("{csf: [], gm: 1}", r"'csf' is \[\]; expected a mapping"),
        ("{gm: 1, Grey matter: 2}", "'gm' and 'Grey matter' are both 'gm'; expected each name once"),
        ("{T1-lesion: 1, t1 lesion: 2}", "are both 't1_lesion'; .* give its labels as one list, or rename one"),
        ("{mean: 1, csf: 2}", "'mean' is no name for a tissue; expected letters a to z and digits, not mean"),
        ("{--: 1}", "'--' is no name for a tissue"),
        ("{}", "expected a mapping"),
    ],
)
def test_what_is_no_convention_is_refused(stated: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--data.native_labels .*{message}"):
        label_convention(stated)


@pytest.mark.parametrize("name", ["mrbrains13_training", "mrbrains18"])
def test_mrbrains_labels_are_merged_as_the_challenge_says(name: str) -> None:
    scheme = label_scheme("labels", name)
    csf, gm, wm = scheme.encode(np.arange(9, dtype=np.uint8))[1:]
    assert csf.tolist() == [0, 0, 0, 0, 0, 1, 1, -1, -1]
    assert gm.tolist() == [0, 1, 1, 0, 0, 0, 0, -1, -1]
    assert wm.tolist() == [0, 0, 0, 1, 1, 0, 0, -1, -1]
    assert CONVENTIONS["mrbrains18"].ignore == (7, 8, 9, 10)
    with pytest.raises(CaseError, match=r"the mask holds label \[11\]"):
        scheme.require_known([0, 11], "a")


@pytest.mark.parametrize(
    ("mapping", "found", "way"),
    [
        ("{csf: 1, gm: 2}", [1, 2, 3], "add 3 to the mapping of --data.native_labels, or 'ignore: 3', or fix the mask"),
        (
            "{gm: 2, ignore: 9}",
            [2, 3],
            "add 3 to the mapping of --data.native_labels, or 'ignore: [3, 9]', or fix the mask",
        ),
    ],
)
def test_a_stated_mapping_is_completed_and_no_other_convention_is_advised(
    mapping: str, found: list[int], way: str
) -> None:
    with pytest.raises(CaseError, match=f"{re.escape(way)}$"):
        label_scheme("labels", mapping).require_known(found, "a")


def test_training_labels_are_written_as_those_of_the_test_set_on_request() -> None:
    written = in_convention(label_scheme("labels", "mrbrains13_training"), "mrbrains13")
    assert written.decode(np.eye(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("target", "convention", "members", "export"),
    [
        ("only:et", "brats2023", (3,), 3),
        ("only:tc", "brats2017", (1, 4), 1),
        ("only:wt", "brats2017", (1, 2, 4), 1),
        ("only:oedema", "brats2017", (2,), 2),
        ("only:rc", "brats2024", (4,), 4),
        ("only:csf", "mrbrains13_training", (5, 6), 5),
    ],
)
def test_one_region_or_tissue_alone_is_a_target(target: str, convention: str, members: tuple[int, ...], export: int):
    scheme = label_scheme(target, convention)
    assert (scheme.channels, scheme.members, scheme.export) == ((target[5:],), (members,), (export,))
    assert (scheme.activation, scheme.name) == ("sigmoid", f"{target}/{convention}")
    assert label_scheme(scheme.name) == scheme
    assert scheme.foreground == scheme.channels


def test_a_region_that_the_labels_do_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"only:et: not among the native labels 'binary'; .*known: tumour, wt"):
        label_scheme("only:et", "binary")
    with pytest.raises(UsageError, match=r"no such label scheme; .*, or only:NAME for one region or tissue"):
        label_scheme("et")


def test_a_manifest_and_an_option_may_state_it(tmp_path: Path) -> None:
    own = "{csf: 1, gm: 2, wm: 3}"
    for name in ("t1.nii", "mask.nii"):
        (tmp_path / name).touch()
    (tmp_path / "manifest.csv").write_text(f'case,t1,mask,native_labels\na,t1.nii,mask.nii,"{own}"\n')
    scheme = find_cohort(tmp_path, labels="labels").scheme
    assert scheme is not None
    assert scheme.name == f"labels/{own}"
    asked = find_cohort(tmp_path, labels="labels", native_labels={"csf": 1, "gm": 2, "wm": 3}).scheme
    assert asked is not None
    assert asked.name == scheme.name
