"""What a header says a series is, what is left in doubt, and how a user decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from segan_pl.clinical.modality import choose, read_rules, recognise
from segan_pl.clinical.series import Header, Series
from segan_pl.errors import UsageError


def series(key: str = "s", *, voxel: float = 5.0, fault: str = "", **header: object) -> Series:
    return Series(key, "p", "v", (), Header(**header), 26, (1.0, 1.0, voxel), fault=fault)  # type: ignore[arg-type]


def times(echo: float, repetition: float, inversion: float | None = None) -> dict[str, float | None]:
    return {"echo_time_ms": echo, "repetition_time_ms": repetition, "inversion_time_ms": inversion}


@pytest.mark.parametrize(
    ("header", "modality"),
    [
        (times(12, 550), "t1"),
        ({**times(2.9, 2300, 900), "description": "MPRAGE sag"}, "t1"),
        ({**times(12, 550), "contrast": True}, "t1ce"),
        ({"description": "T1_post_Gd"}, "t1ce"),
        ({"description": "ax T1 +C"}, "t1ce"),
        ({"description": "t1 without contrast"}, "t1"),
        (times(95, 4500), "t2"),
        ({**times(120, 9000, 2500), "description": "T2 FLAIR"}, "flair"),
        ({"description": "t2_tirm_dark-fluid"}, "flair"),
        ({"description": "case_t2f"}, "flair"),
        ({"description": "t1_mpr_sag_p2_iso", "image_type": ("ORIGINAL", "PRIMARY", "M")}, "t1"),
        ({"description": "sub-01_T1w"}, "t1"),
        ({"description": "pilot_study_3_t1"}, "t1"),
        ({"description": "MEIER_loccipital_t2"}, "t2"),
    ],
)
def test_times_and_words_say_the_modality(header: dict, modality: str) -> None:
    seen = recognise(series(**header))
    assert (seen.role, seen.modality, seen.doubt) == ("image", modality, "")
    assert seen.evidence


@pytest.mark.parametrize(
    "words",
    ["T1 postcontrast", "T1_postGd", "T1 Gadolinium", "T1 Gadovist", "t1wce", "t1wgd", "t1wpost", "T1 3D postKM"],
)
def test_words_for_a_contrast_agent_are_known(words: str) -> None:
    assert recognise(series(description=words)).modality == "t1ce"


@pytest.mark.parametrize("words", ["AX T1 post-op", "t1_pre_op", "T1 postoperative", "T1 Coronal"])
def test_other_words_say_nothing_of_a_contrast_agent(words: str) -> None:
    assert recognise(series(description=words)).modality == "t1"


@pytest.mark.parametrize(
    ("header", "role"),
    [
        ({"description": "localizer"}, "localiser"),
        ({"description": "T2", "image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "localiser"),
        ({"description": "T1 MPR tra"}, "derived"),
        ({"description": "T2", "image_type": ("DERIVED", "SECONDARY")}, "derived"),
        ({"description": "ADC"}, "other"),
        ({"description": "T2", "b_value": 1000.0}, "other"),
        ({"description": "ep2d_diff"}, "other"),
        ({"description": "t2*_gre"}, "other"),
        ({"description": "TOF angio"}, "other"),
        ({**times(20, 700), "sequence": ("GR", "SP")}, "other"),
        ({**times(60, 4000, 160), "description": "t2_tirm_cor"}, "other"),
        ({"description": "t1_mpr", "image_type": ("DERIVED", "PRIMARY", "MPR")}, "derived"),
        ({"description": "t1 sub"}, "derived"),
        ({"description": "loc 3 planes"}, "localiser"),
    ],
)
def test_what_is_no_structural_image_is_told_apart(header: dict, role: str) -> None:
    assert recognise(series(**header)).role == role


@pytest.mark.parametrize(
    ("header", "doubt"),
    [
        ({**times(95, 4500), "description": "AX T1"}, "its times say t2, its words t1"),
        ({"description": "head routine"}, "neither its times nor its words"),
        ({**times(120, 9000), "sequence": ("SE", "IR"), "description": "head"}, "neither its times nor its words"),
        ({**times(12, 550), "description": "T1 PRE", "contrast": True}, "contradicts itself"),
        ({"description": "T1 pre and post gd"}, "contradicts itself"),
    ],
)
def test_a_contradiction_is_a_doubt_and_no_guess(header: dict, doubt: str) -> None:
    seen = recognise(series(**header))
    assert doubt in seen.doubt
    assert not seen.modality
    chosen, _, doubts = choose([(series(**header), seen)])
    assert not chosen
    assert doubt in doubts[0]


def seen(*members: Series) -> list:
    return [(one, recognise(one)) for one in members]


def test_of_double_series_the_finest_is_taken_with_a_note() -> None:
    chosen, notes, doubts = choose(seen(series("a", description="t2"), series("b", voxel=1.0, description="t2 3d")))
    assert chosen["t2"].key == "b"
    assert "left out: a" in notes[0]
    assert not doubts


def test_double_series_of_one_resolution_are_a_doubt_that_a_hand_settles() -> None:
    members = seen(series("a", description="t2"), series("b", description="t2"))
    assert "none is clearly the finest: a, b" in choose(members)[2][0]
    assert choose(members, {"a": "none"})[0]["t2"].key == "b"
    assert choose(members, {"b": "t2"})[0]["t2"].key == "b"
    assert not choose(members, {"b": "t2"})[2]


def test_a_series_with_a_fault_is_left_out_with_a_note() -> None:
    chosen, notes, _ = choose(
        seen(series("a", description="t2", fault="lacks 1 of its slices"), series("b", description="t1"))
    )
    assert set(chosen) == {"t1"}
    assert notes == ["series a (t2) lacks 1 of its slices"]


def test_the_first_rule_that_fits_goes_before_all_else(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "- {modality: none, description: screening}\n- {modality: t1ce, echo_time_ms: [0, 20], contrast: false}\n"
    )
    rules = read_rules(file)
    assert recognise(series(description="SCREENING T2"), rules).role == "other"
    assert recognise(series(**times(95, 4500), description="x"), rules).modality == "t2"
    assert recognise(series(**times(12, 550), description="t1 pre"), rules).modality == "t1ce"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{a: 1}", "expected a list of rules"),
        ("- {modality: t1}", "at least one condition"),
        ("- {modality: t1, descripton: x}", "did you mean 'description'"),
        ("- {modality: t1, description: '('}", "is no regular expression"),
        ("- {modality: ../x, description: x}", "expected one of t1, t1ce, t2, flair, or none"),
        ("- {modality: t1, echo_time_ms: 5}", r"expected \[lowest, highest\]"),
    ],
)
def test_a_wrong_rule_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_rules(tmp_path / "rules.yaml")
