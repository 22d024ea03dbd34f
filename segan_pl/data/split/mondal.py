"""Mondal et al.'s split of iSEG-2017, few labelled subjects and many without labels; by number, nothing is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from segan_pl.data.case import Case, CaseError
from segan_pl.data.split.record import Split, case_digest, some
from segan_pl.errors import UsageError

NAME = "mondal"
SOURCE = (
    "Mondal et al.'s code (few-shot 3-D GAN), iSEG: subjects 1 to n train (n is --data.n_labelled, 1 or 2), the next "
    "validates, the next 7 test, 11 to 22 are unlabelled"
)
# Of iSEG-2017 the subjects with labels; the code takes 12 of the 13 others.
LABELLED, TESTED, UNLABELLED = 10, 7, range(11, 23)


def mondal_split(cases: Sequence[Case], labelled: int = 1) -> Split:
    """The split with so many labelled training subjects.

    The test part moves with the number (3 to 9, or 4 to 10), so scores for 1 and for 2 are of other subjects.

    Args:
        cases: All of iSEG, those without masks too.
        labelled: 1 or 2.

    Raises:
        CaseError: A subject is missing.
        UsageError: Another number.
    """
    last = labelled + 1 + TESTED
    if labelled < 1 or last > LABELLED:
        raise UsageError(f"--preset {NAME}: --data.n_labelled {labelled}; expected 1 or 2, of 10 subjects with labels")
    names = {f"subject-{number}" for number in (*range(1, last + 1), *UNLABELLED)}
    used = [case for case in cases if case.name in names]
    if missing := sorted(names - {case.name for case in used}, key=lambda name: int(name.split("-")[1])):
        raise CaseError(
            f"--preset {NAME}: the data lacks {some(missing)}; expected iSEG-2017's subjects 1 to {last} and 11 to 22, "
            f"its test folder with --data.unlabelled use"
        )

    def subjects(numbers: range) -> tuple[str, ...]:
        return tuple(sorted(f"subject-{number}" for number in numbers))

    return Split(
        train=subjects(range(1, labelled + 1)),
        val=subjects(range(labelled + 1, labelled + 2)),
        test=subjects(range(labelled + 2, last + 1)),
        unlabelled=subjects(UNLABELLED),
        digest=case_digest(used),
        notes=(
            f"the test part is subjects {labelled + 2} to {last}: of another --data.n_labelled it is another",
            "fit with --data.unlabelled use --data.split_leftovers ignore: the code leaves other subjects out, too",
        ),
    )
