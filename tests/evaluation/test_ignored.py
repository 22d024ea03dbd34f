"""Voxels that are not judged leave every count, surface, lesion and volume, wherever a case is scored."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from segan_pl.data.labels import label_scheme
from segan_pl.evaluation.metrics.named import BUILT_IN
from segan_pl.evaluation.policies import POLICIES
from segan_pl.evaluation.scoring import score_case, score_missing
from segan_pl.evaluation.volumes import confusion
from segan_pl.inference.postprocessing import Pair, dices_of
from segan_pl.training.validation import VolumeScoring

SCHEME = label_scheme("regions", "{necrosis: 1, oedema: 2, enhancing: 4, ignore: 9}")
JUDGED = label_scheme("regions", "brats2017")


def masks(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A prediction and a reference (9, 12, 14) with blobs of labels, and where the reference is not judged."""
    rng = np.random.default_rng(seed)
    prediction, reference = (rng.choice([0, 0, 0, 1, 2, 4], (9, 12, 14)).astype(np.uint8) for _ in range(2))
    ignored = np.zeros(reference.shape, bool)
    ignored[2:7, 4:9, 5:12] = True
    return prediction, reference, ignored


@pytest.fixture
def metrics():
    return list(BUILT_IN.values())


def values(scores: list) -> list[tuple]:
    return [(s.region, *s.counts, *(None if np.isnan(v) else v for v in s.values.values())) for s in scores]


def test_scores_are_those_of_both_masks_cleared_and_of_fewer_voxels(metrics) -> None:
    prediction, reference, ignored = masks()
    found = score_case(prediction, np.where(ignored, 9, reference).astype(np.uint8), (1, 1, 2), metrics, scheme=SCHEME)
    cleared = [np.where(ignored, 0, label).astype(np.uint8) for label in (prediction, reference)]
    expected = score_case(*cleared, (1, 1, 2), metrics, scheme=JUDGED)
    for one, other in zip(found, expected, strict=True):
        assert one.counts[:3] == other.counts[:3]
        assert one.counts.tn == other.counts.tn - ignored.sum()
        for name in set(one.values) - {"specificity"}:
            np.testing.assert_equal(one.values[name], other.values[name], err_msg=name)


def test_what_is_predicted_where_nothing_is_judged_changes_no_metric(metrics) -> None:
    prediction, reference, ignored = masks()
    reference[ignored] = 9
    other = np.where(ignored, np.random.default_rng(1).choice([0, 1, 2, 4], ignored.shape), prediction).astype(np.uint8)
    asked = {"scheme": SCHEME, "metrics": metrics}
    first = values(score_case(prediction, reference, (1, 1, 1), **asked))
    assert values(score_case(other, reference, (1, 1, 1), **asked)) == first
    other[ignored] = 9  # a prediction may hold the label too
    assert values(score_case(other, reference, (1, 1, 1), **asked)) == first
    assert values(score_missing(reference, (1, 1, 1), **asked))[0][:5] == (
        "wt", 0, 0, int(np.isin(reference, (1, 2, 4)).sum()), int((reference == 0).sum())
    )  # fmt: skip


def test_counts_on_a_device_leave_them_out_too() -> None:
    prediction, reference, ignored = masks()
    reference[ignored] = 9
    mask = torch.from_numpy(SCHEME.encode(prediction) > 0)
    target = torch.from_numpy(SCHEME.encode(reference))
    assert target.dtype == torch.int8
    found = confusion(mask, target, target[0] < 0).tolist()
    expected = [list(s.counts) for s in score_case(prediction, reference, (1, 1, 1), (), scheme=SCHEME)]
    assert found == expected


@pytest.mark.parametrize("score_on", ["volume", "crop"])
@pytest.mark.parametrize("names", [["dice"], ["dice", "hd95_mm"]])
def test_validation_scores_as_evaluate_does(score_on: str, names: list[str]) -> None:
    prediction, reference, ignored = masks()
    reference[ignored] = 9
    chosen = [BUILT_IN[name] for name in names]
    scoring = VolumeScoring(
        SCHEME,
        POLICIES["segan_cat"],
        metrics=chosen,
        tested=chosen,
        score_on=score_on,  # type: ignore[arg-type]
        crop=reference.shape,
        shown=0,
        previews=1,
    )
    geometry = SimpleNamespace(
        resampled=False,
        real_box=tuple(slice(0, n) for n in reference.shape),
        affine=np.eye(4),
        affine_prepared=np.eye(4),
        restore=lambda label: label,
    )
    data = SimpleNamespace(
        cases=[SimpleNamespace(name="a")],
        geometry=lambda row: geometry,
        outside=lambda row: np.zeros((3, 2), np.int64),
        reference=lambda row: reference,
    )
    target = torch.from_numpy(SCHEME.encode(reference))
    logits = torch.from_numpy(SCHEME.encode(prediction)).float() - 0.5
    scoring.score(0, target, logits, data)  # type: ignore[arg-type]
    written = SCHEME.decode(SCHEME.encode(prediction))
    assert values(scoring.last) == values(score_case(written, reference, (1, 1, 1), chosen, scheme=SCHEME))
    scoring.keep_preview(0, torch.zeros(1, *reference.shape), target, logits, data)  # type: ignore[arg-type]
    (kept,) = scoring.previews
    assert set(np.unique(kept.reference)) <= set(range(1 + len(SCHEME.foreground)))
    np.testing.assert_array_equal(kept.ignored, ignored[kept.z])


def test_post_processing_is_chosen_without_them() -> None:
    prediction, reference, ignored = masks()
    reference[ignored] = 9
    other = np.where(ignored, 1, prediction).astype(np.uint8)
    found = [dices_of(Pair(one, reference, 0.001), [()], SCHEME) for one in (prediction, other)]
    assert found[0] == found[1]


def test_a_preview_shades_what_is_not_judged(tmp_path: Path) -> None:
    from segan_pl.evaluation.previews import PreviewSlice
    from segan_pl.training.callbacks.preview import draw

    ignored = np.zeros((8, 8), bool)
    ignored[:3] = True
    image, mask = np.zeros((8, 8), np.float32), np.eye(8, dtype=np.uint8)
    plain = PreviewSlice("a", 1, image, mask, mask, ("wt",), image)
    titles = [axes.get_title() for axes in draw([plain._replace(ignored=ignored), plain], "t").axes]
    assert titles.count("reference (blue: not judged)") == 1
