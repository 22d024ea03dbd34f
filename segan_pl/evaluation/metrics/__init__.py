"""Metrics as objects: name, unit, direction, bounds, what an empty mask scores, and how the value is computed."""

from segan_pl.evaluation.metrics.base import Counted as Counted
from segan_pl.evaluation.metrics.base import CountMetric as CountMetric
from segan_pl.evaluation.metrics.base import MaskPair as MaskPair
from segan_pl.evaluation.metrics.base import Metric as Metric
