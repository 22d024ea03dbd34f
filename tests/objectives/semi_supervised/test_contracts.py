"""The contract of each semi-supervised objective."""

from __future__ import annotations

from typing import Any

from segan_pl.losses.overlap import SoftDice
from segan_pl.losses.vat import VATLoss
from segan_pl.objectives.base import Objective, StepContext
from segan_pl.objectives.semi_supervised.bcp import BidirectionalCopyPaste
from segan_pl.objectives.semi_supervised.cps import CrossPseudoSupervision
from segan_pl.objectives.semi_supervised.fixmatch import FixMatch
from segan_pl.objectives.semi_supervised.mean_teacher import MeanTeacher
from segan_pl.objectives.semi_supervised.self_training import SelfTraining
from segan_pl.objectives.semi_supervised.ua_mt import UncertaintyAwareMeanTeacher
from segan_pl.objectives.semi_supervised.vat import VirtualAdversarial
from segan_pl.objectives.supervised import Supervised
from tests.objectives.semi_supervised.contract import SemiSupervisedContract

DICE_ALONE = Supervised(dice=SoftDice(reduction="batch"))


class TestMeanTeacher(SemiSupervisedContract):
    options = ({}, {"samples": "all", "ramp_up": 0}, {"supervised": DICE_ALONE})
    forwards = {"segmentor": 1, "teacher": 1}  # noqa: RUF012
    step = 90

    def build(self, **options: Any) -> Objective:
        return MeanTeacher(**options)


class TestUncertaintyAwareMeanTeacher(SemiSupervisedContract):
    options = ({}, {"passes": 1, "samples": "all"})
    forwards = {"segmentor": 1, "teacher": 3}  # noqa: RUF012
    step = 90

    def build(self, **options: Any) -> Objective:
        return UncertaintyAwareMeanTeacher(**{"passes": 2, **options})


class TestCrossPseudoSupervision(SemiSupervisedContract):
    options = ({}, {"samples": "all", "pseudo": DICE_ALONE})
    forwards = {"segmentor": 1, "second": 1}  # noqa: RUF012
    step = 90

    def build(self, **options: Any) -> Objective:
        return CrossPseudoSupervision(**options)


class TestFixMatch(SemiSupervisedContract):
    options = ({"threshold": 0.5}, {"threshold": 0.0, "ramp_up": None})
    forwards = {"segmentor": 2}  # noqa: RUF012

    def build(self, **options: Any) -> Objective:
        return FixMatch(**{"threshold": 0.55, **options})


class TestBidirectionalCopyPaste(SemiSupervisedContract):
    options = ({}, {"largest_component": False, "box": 0.5})
    forwards = {"segmentor": 1, "teacher": 1}  # noqa: RUF012
    step = 50

    def build(self, **options: Any) -> Objective:
        return BidirectionalCopyPaste(**options)

    def test_tiny_case_is_overfitted(self) -> None:
        """From the first step of the warm-up on: without one, the teacher would know nothing."""
        self.step = 0

        def next_step(*given: Any) -> StepContext:
            self.step += 1
            return super(TestBidirectionalCopyPaste, self).context(*given)

        self.context = next_step  # type: ignore[method-assign]
        super().test_tiny_case_is_overfitted()


class TestSelfTraining(SemiSupervisedContract):
    options = ({"threshold": 0.5}, {"warm_up": 0, "refresh": 3, "threshold": 0.0})
    forwards = {"segmentor": 1, "teacher": 1}  # noqa: RUF012
    step = 60

    def build(self, **options: Any) -> Objective:
        return SelfTraining(**{"threshold": 0.55, **options})


class TestVirtualAdversarial(SemiSupervisedContract):
    options = ({}, {"samples": "unlabelled", "vat": VATLoss(power_iterations=2)})
    forwards = {"segmentor": 3}  # noqa: RUF012

    def build(self, **options: Any) -> Objective:
        return VirtualAdversarial(**options)
