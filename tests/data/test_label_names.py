"""What a data set calls its labels against what a convention takes them for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.cohort import find_cohort, native_convention
from segan_pl.data.conventions import (
    CONVENTIONS,
    Convention,
    described_convention,
    fitting_conventions,
    label_convention,
    remedy,
)
from segan_pl.data.io import read_volume, write_volume
from segan_pl.data.label_names import LabelNames
from segan_pl.data.labels import label_scheme
from segan_pl.data.layouts import find_data_set
from segan_pl.errors import UsageError
from tests.generators.trees import write_cohort

MSD = {"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3, "ignore": 4}


def names(labels: dict[str, int | tuple[int, ...]]) -> LabelNames:
    return LabelNames("dataset.json", {n: v if isinstance(v, tuple) else (v,) for n, v in labels.items()})


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_a_convention_does_not_contradict_its_own_words(name: str) -> None:
    convention = CONVENTIONS[name]
    assert convention.contradictions(names(convention.numbers | {"ignore": convention.ignore})) == []
    regions = {region: tuple(sorted(numbers)) for region, numbers in convention.regions().items()}
    assert convention.contradictions(names(regions)) == []


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"brain tumor": 1}, "binary"),
        ({"metastasis": 1}, "binary"),
        ({"whole tumor": 1}, "binary"),
        ({"enhancing tumor": 1}, "binary"),
        ({"tumor core": 1}, None),
        ({"cavity": 1}, None),
        ({"wm": 1}, None),
        ({"brain tumor": 2}, None),
        ({"edema": 1, "necrosis": 2, "enhancing": 3}, "msd"),
    ],
)
def test_the_names_choose_no_convention_that_contradicts_them(labels: dict[str, int], name: str | None) -> None:
    assert described_convention(names(labels)) == name
    assert name is None or CONVENTIONS[name].contradictions(names(labels)) == []


@pytest.mark.parametrize(
    ("labels", "name", "lines"),
    [
        (
            {"edema": 1, "necrosis": 2, "enhancing": 3},
            "brats2024",
            [
                "label 1 is 'edema' in dataset.json, 'necrosis' in 'brats2024'",
                "label 2 is 'necrosis' in dataset.json, 'oedema' in 'brats2024'",
            ],
        ),
        ({"NCR": 1, "ED": 2, "ET": 4}, "brats2015", []),
        ({"NETC": 1, "SNFH": 2, "ET": 3}, "brats2024", []),
        ({"NCR": 1, "ED": 2, "ET": 4}, "brats2023", ["label 4 is 'et' in dataset.json, unknown to 'brats2023'"]),
        ({"edema": 1}, "binary", []),
        ({"csf": 1}, "binary", ["label 1 is 'csf' in dataset.json, 'tumour' in 'binary'"]),
        ({"tumour": 1}, "brats2017", ["'tumour' is [1] in dataset.json, [1, 2, 4] in 'brats2017'"]),
        ({"brain tumor": 1}, "brats2017", ["'brain tumor' is [1] in dataset.json, [1, 2, 4] in 'brats2017'"]),
        ({"brain tumor": 1}, "binary", []),
        ({"tumor core": 1}, "binary", ["'tumor core' is [1] in dataset.json, [] in 'binary'"]),
        ({"cavity": 1}, "binary", ["label 1 is 'cavity' in dataset.json, 'tumour' in 'binary'"]),
        ({"tumour": 1, "left": 2}, "brats2015", []),
        ({"left": 1, "right": 2}, "brats2015", []),
        ({"background": 1, "lesion": 0}, "binary", None),
        (
            {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": 3},
            "brats2023",
            ["'tumor core' is [2, 3] in dataset.json, [1, 3] in 'brats2023'"],
        ),
        ({"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": 3}, "msd", []),
        ({"lesion": 1, "ignore": 2}, "binary", []),
        ({"lesion": 1, "ignore": 2}, "msd", None),
    ],
)
def test_what_a_convention_takes_for_something_else_is_named(
    labels: dict[str, int | tuple[int, ...]], name: str, lines: list[str] | None
) -> None:
    found = CONVENTIONS[name].contradictions(names(labels))
    assert found if lines is None else found == lines


def test_advice_never_names_a_convention_that_the_data_sets_names_contradict() -> None:
    assert fitting_conventions([0, 1, 2, 3, 4]) == ["brats2015", "brats2024"]
    assert fitting_conventions([0, 1, 2, 3, 4], names(MSD)) == []
    assert fitting_conventions([0, 1, 2, 3], names(MSD)) == ["msd"]
    assert fitting_conventions([0, 1, 2], names({"NCR": 1, "ED": 2, "ET": 4})) == ["brats2015", "brats2017"]


def told(labels: dict[str, int | tuple[int, ...]], found: list[int]) -> str:
    stated = names(labels)
    convention = CONVENTIONS[described_convention(stated) or ""]
    with pytest.raises(CaseError) as error:
        Convention(convention.name, convention.tissues, stated=stated).require_known(found, "a")
    return str(error.value)


def test_what_dataset_json_calls_ignore_is_ignored(nnunet: Path) -> None:
    scheme = find_cohort(nnunet, labels="regions").scheme
    assert scheme is not None
    assert scheme.convention.name == "{oedema: 1, necrosis: 2, enhancing: 3, ignore: 4}"
    assert scheme.members == label_scheme("regions", "msd").members
    assert scheme.encode(np.array([0, 1, 4], np.uint8)).tolist() == [[0, 1, -1], [0, 0, -1], [0, 0, -1]]
    again = find_cohort(nnunet, labels="regions", native_labels="msd").scheme  # what is stated twice is one thing
    assert again is not None
    assert again.name == scheme.name
    assert label_scheme(scheme.name) == scheme


def test_a_label_that_no_agreeing_convention_knows_is_refused_without_advice_to_choose_one() -> None:
    assert told({"edema": 1, "necrosis": 2, "enhancing": 3}, [0, 1, 4]) == (
        "a: the mask holds label [4], 'msd' knows [0, 1, 2, 3]; no --data.native_labels fits without contradicting the "
        "names in dataset.json, give the names as --data.native_labels '{edema: 1, necrosis: 2, enhancing: 3}', or fix "
        "the mask"
    )


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """Three cases, one with a voxel to ignore, described as in a public report."""
    write_cohort(tmp_path, layout="nnunet", cases=3, shape=(16, 32, 32))
    describe(tmp_path, MSD)
    mask = min((tmp_path / "labelsTr").iterdir())
    volume = read_volume(mask)
    array = volume.array.copy()
    array[0, 0, 0] = 4
    write_volume(mask, array, volume.affine)
    return tmp_path


def describe(root: Path, labels: dict[str, int]) -> None:
    content = json.loads((root / "dataset.json").read_text())
    content["labels"] = labels
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize("asked", ["brats2015", "brats2017", "brats2023", "brats2024", "binary", "mrbrains13"])
def test_a_convention_that_contradicts_dataset_json_is_refused_with_the_contradiction(nnunet: Path, asked: str) -> None:
    with pytest.raises(
        UsageError, match=rf"--data.native_labels {asked}: label 1 is 'edema' in dataset.json, .*of '.oedema: 1"
    ):
        find_cohort(nnunet, native_labels=asked, labels="labels")


def test_binary_labels_asked_of_named_tissues_are_refused(nnunet: Path) -> None:
    with pytest.raises(UsageError, match=r"--data.labels binary: label 1 is 'edema'.*; choose --data.labels whole_tum"):
        find_cohort(nnunet, labels="binary")


def test_names_that_no_convention_has_are_no_reason_to_advise_one(nnunet: Path) -> None:
    describe(nnunet, {"background": 0, "edema": 1, "enhancing": 2, "necrosis": 3})
    own = "{edema: 1, enhancing: 2, necrosis: 3}"
    with pytest.raises(CaseError, match=r"no --data.native_labels fits without contradicting the names in.*'" + own):
        find_cohort(nnunet)
    scheme = find_cohort(nnunet, native_labels=own, labels="only:et").scheme
    assert scheme is not None
    assert scheme.members == ((2,),)
    with pytest.raises(UsageError, match=r"native_labels msd: label 2 is 'enhancing' .*; no --data.native_labels fits"):
        find_cohort(nnunet, native_labels="msd")


def test_a_manifest_and_an_option_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path, layout="manifest", cases=2, shape=(16, 32, 32))
    source = find_data_set(tmp_path)
    assert native_convention(source, "brats2017") == "brats2017"
    with pytest.raises(UsageError, match=r"label 1 is 'necrosis' in manifest.csv \(native_labels brats2017\), 'oed"):
        native_convention(source, "msd")


def test_where_only_the_layout_says_what_labels_mean_an_option_still_wins(tmp_path: Path) -> None:
    write_cohort(tmp_path, layout="brats2019", cases=2, shape=(16, 32, 32))
    assert native_convention(find_data_set(tmp_path), "msd") == "msd"


def test_names_that_no_convention_has_are_advised_as_they_are() -> None:
    own = names({"background": 0, "Left Hippocampus": 1, "Right Hippocampus": (2, 3)})
    mapping = "{left_hippocampus: 1, right_hippocampus: [2, 3]}"
    assert f", or as dataset.json has it, '{mapping}', or relabel" in remedy((), own, "state it", "relabel")
    assert label_convention(mapping).name == mapping
    for alike in ({"T2 lesion": 1, "T2-lesion": 2}, {"edema": 1, "oedema": 2}, {"mean": 1}, {"--": 1}):
        assert names({"background": 0, **alike}).mapping is None  # `label_convention` would refuse it
