"""What words mean: modalities, masks, labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segan_pl.data.conventions import CONVENTIONS, described_convention
from segan_pl.data.label_names import LabelNames
from segan_pl.data.layouts.folders import ALIASES, modality_of, part_of

WORDS = {
    "t1": ("T1", "t1n", "T1w", "MR_T1", "t1_pre", "MRI T1"),
    "t1ce": ("T1c", "t1ce", "T1Gd", "t1-gd", "t1post", "T1_post", "MR_T1c", "T1+C", "T1wCE", "t1km"),
    "t2": ("T2", "t2w", "MR_T2"),
    "flair": ("FLAIR", "Flair", "fla", "t2f", "T2f", "T2-FLAIR", "t2_flair", "MR_Flair", "T2w-FLAIR"),
}


@pytest.mark.parametrize(("modality", "word"), [(modality, word) for modality in WORDS for word in WORDS[modality]])
def test_aliases_of_modalities(modality, word):
    assert modality_of(word) == modality


@pytest.mark.parametrize("word", ["seg", "dwi", "ADC", "T1map", "t3", "", "mr", "1", "OT", "flairmask", "t1t2"])
def test_a_word_that_is_no_modality_is_not_taken_for_one(word):
    assert modality_of(word) is None


@given(st.sampled_from([(modality, alias) for modality in ALIASES for alias in ALIASES[modality]]), st.data())
def test_an_alias_means_the_same_in_any_letters_with_any_separators(known, data):
    modality, alias = known
    letters = [data.draw(st.sampled_from([c.lower(), c.upper()])) for c in alias]
    between = data.draw(st.lists(st.sampled_from(["", "", "-", "_", " "]), min_size=len(alias), max_size=len(alias)))
    assert modality_of("".join(a + b for a, b in zip(letters, between, strict=True))) == modality


@pytest.mark.parametrize(
    ("stem", "part"),
    [
        ("BraTS19_CBICA_AAB_1_t1", "t1"),
        ("case_1_t2", "t2"),
        ("BraTS-GLI-00000-000-t2f", "flair"),
        ("x_t2_flair", "flair"),
        ("x_T1_Gd", "t1ce"),
        ("x_t1_post", "t1ce"),
        ("W39_1998.09.19_Segm", "mask"),
        ("x-seg", "mask"),
        ("t1_mask", "mask"),
        ("x_t1_bet", None),
        ("x_lesion", None),
        ("", None),
    ],
)
def test_a_file_is_known_by_how_its_name_ends(stem, part):
    assert part_of(stem) == part


def convention_of(labels: dict[str, tuple[int, ...]]) -> str | None:
    """The convention that a dataset.json's labels describe."""
    return described_convention(LabelNames("dataset.json", labels))


def wt_tc_et(name: str) -> dict[str, tuple[int, ...]]:
    """Regions of a convention, worked out from the definitions: core is all tumour but oedema."""
    tissues = dict(CONVENTIONS[name].tissues)
    whole = tuple(tissues.values())
    core = tuple(label for label in whole if label != tissues["oedema"])
    return {"whole tumor": whole, "tumor core": core, "enhancing tumor": (tissues["enhancing"],)}


@pytest.mark.parametrize("name", ["brats2015", "brats2017", "brats2023", "msd"])
def test_regions_are_matched_by_their_numbers_in_any_order(name):
    regions = {"background": (0,), **wt_tc_et(name)}
    assert convention_of(regions) == name
    assert convention_of({key.upper(): numbers[::-1] for key, numbers in reversed(regions.items())}) == name


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS) - {"binary", "ibsr18"}))  # the numbers of mrbrains13
def test_a_conventions_own_words_describe_it(name):
    convention = CONVENTIONS[name]
    assert convention_of({**convention.numbers, "ignore": convention.ignore}) == name


@pytest.mark.parametrize(
    ("labels", "convention"),
    [
        ({"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}, "msd"),
        ({"background": 0, "NCR": 1, "ED": 2, "ET": 4}, "brats2017"),
        ({"NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, "brats2024"),
        ({"background": 0, "necrotic core": 1, "peritumoral edema": 2, "enhancing": 3}, "brats2023"),
        ({"necrosis": 1, "edema": 2, "non-enhancing tumor": 3, "enhancing tumor": 4}, "brats2015"),
        ({"background": 0, "lesion": 1}, "binary"),
        ({"background": 0, "lesion": 1, "ignore": 2}, "{tumour: 1, ignore: 2}"),
        ({"background": 0, "NCR/NET": 1, "ED": 2, "ET": 4}, "brats2017"),
        ({"background": 0, "CSF": 1}, None),
        ({"background": 0, "lesion": 255}, None),
        ({"background": 1, "lesion": 0}, None),
        ({"edema": 2, "necrosis": 1, "enhancing": 7}, None),
        ({"edema": 2, "oedema": 1, "enhancing": 3}, None),
        ({"edema": 1, "cyst": 2, "enhancing": 3}, None),
        ({"background": 0, "left": 1, "right": 2}, None),
        ({}, None),
    ],
)
def test_only_a_certain_match_is_a_match(labels, convention):
    assert convention_of({name: (number,) for name, number in labels.items()}) == convention


@given(st.dictionaries(st.text(max_size=8), st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=4))
def test_any_names_and_numbers_give_a_convention_or_none(labels):
    assert convention_of(labels) in (None, *CONVENTIONS)
