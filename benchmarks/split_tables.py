"""The balance tables of docs/splits.md, from generated case lists as large as BraTS 2015, 2017, 2019 and 2021.

    python benchmarks/split_tables.py

No file is read: a case here is a name, a patient, a grade and a site. Known counts of the authors come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segan_pl.data.case import Case
from segan_pl.data.split.balance import balance_of, render
from segan_pl.data.split.drawing import stratified_folds, stratified_split
from segan_pl.data.split.presets import PRESETS, preset_split
from segan_pl.data.split.record import Split

# Totals by grade (259, 76) are BraTS 2019's; how many cases a site has is generated, so that SegAN-CAT's two rules give
# the authors' 294/41 and 227/49/59.
SITES_2019 = {
    "HGG": {"2013": 20, "CBICA": 129, "TMC": 8}
    | {"TCIA01": 6, "TCIA02": 28, "TCIA03": 16, "TCIA04": 4, "TCIA05": 12, "TCIA06": 32, "TCIA08": 4},
    "LGG": {"2013": 10, "TMC": 1} | {"TCIA09": 39, "TCIA10": 7, "TCIA12": 6, "TCIA13": 10, "TCIA14": 1, "TCIA15": 2},
}
# 20 HGG patients of BraTS 2015 have 2 to 10 scans, 96 in all; how many each has is generated.
SCANS_2015 = (10, 9, 8, 7, 6, 6, 5, 5, 5, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2)


def brats_2019() -> list[Case]:
    """335 cases of as many patients."""
    sites = [(grade, site, number) for grade, found in SITES_2019.items() for site, number in found.items()]
    return [
        Case(name := f"BraTS19_{site}_{grade}{i:03d}_1", name, {}, None, grade, site)
        for grade, site, number in sites
        for i in range(number)
    ]


def brats_2015() -> list[Case]:
    """274 scans of 198 patients: 220 HGG of 144, 54 LGG of 54."""
    scans = {"HGG": [*SCANS_2015, *[1] * 124], "LGG": [1] * 54}
    return [
        Case(f"{grade}/pat{patient:03d}_{scan}", f"{grade}/pat{patient:03d}", {}, None, grade)
        for grade, numbers in scans.items()
        for patient, number in enumerate(numbers)
        for scan in range(number)
    ]


def alike(number: int) -> list[Case]:
    """So many cases of which nothing is known but the name."""
    return [Case(f"case_{i:04d}", f"case_{i:04d}", {}) for i in range(number)]


def tables() -> Iterator[tuple[str, str]]:
    """The command's options, and the tables in Markdown."""
    cases = brats_2019()
    by = ("grade", "institution")
    yield (
        "--val 0.2 --test 0.2",
        _shown([stratified_split(cases, val_fraction=0.2, test_fraction=0.2, seed=0)], cases, by),
    )
    yield "--folds 5", _shown(stratified_folds(cases, folds=5, seed=0), cases, by)
    lists = {"segan_cat_2015": brats_2015(), "albunet": alike(285), "reciprocal": alike(1251)}
    for name in PRESETS:
        chosen = next((found for key, found in lists.items() if name.startswith(key)), cases)
        yield f"--preset {name}", _shown([preset_split(name, chosen, seed=0)], chosen, PRESETS[name].by)
        if chosen is lists["segan_cat_2015"]:
            scans = preset_split(name, chosen, seed=0, grouped="scan")
            yield f"--preset {name} --group scan", _shown([scans], chosen, PRESETS[name].by)


def _shown(folds: Sequence[Split], cases: Sequence[Case], by: Sequence[str]) -> str:
    notes = "".join(f"- {note}\n" for note in dict.fromkeys(note for fold in folds for note in fold.notes))
    return "\n".join([*(render(table, "markdown") for table in balance_of(folds, cases, by)), notes])


if __name__ == "__main__":
    for options, shown in tables():
        print(f"### `{options}`\n\n{shown}")
