"""Train, ablate and compare adversarial brain-MRI segmentation.

The names below are what a notebook imports; each is imported when it is first used, so that `import segan_pl` costs
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segan_pl.data.module import MRIDataModule
    from segan_pl.evaluation.scoring import score_case
    from segan_pl.evaluation.statistics.comparison import compare
    from segan_pl.inference.predictor import Predictor
    from segan_pl.objectives.base import Objective, Phase
    from segan_pl.training.system import AdversarialSegmentation

    load = Predictor.load

__version__ = "0.1.0"

__all__ = [
    "AdversarialSegmentation",
    "MRIDataModule",
    "Objective",
    "Phase",
    "Predictor",
    "compare",
    "load",
    "score_case",
]

_MODULES = {
    "AdversarialSegmentation": "segan_pl.training.system",
    "MRIDataModule": "segan_pl.data.module",
    "Objective": "segan_pl.objectives.base",
    "Phase": "segan_pl.objectives.base",
    "Predictor": "segan_pl.inference.predictor",
    "compare": "segan_pl.evaluation.statistics.comparison",
    "score_case": "segan_pl.evaluation.scoring",
}


def __getattr__(name: str) -> Any:
    if name == "load":
        found: Any = __getattr__("Predictor").load
    elif name in _MODULES:
        found = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found  # the next use does not come here
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
