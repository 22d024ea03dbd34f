"""A transform outside the package: of whole batches, by seed, in the loader's worker or on the device."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from segan_pl.batch import Batch
from tests.changes.tiny import SMALL, differing, fit, weights
from tests.cohort import QUIET
from tests.contracts import tiny_batch

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
    pytest.mark.usefixtures("isolated", "example"),
]


def test_a_run_is_the_same_in_the_loader_and_on_the_device_and_not_without_it(
    example: Path, cohort: Path, tmp_path: Path
) -> None:
    line = ["--config=segan_cat", f"--config={example / 'my_augmentation.yaml'}", *SMALL]
    ways = {"device": [], "loader": ["--data.augment_on=loader"], "without": ["--data.transforms=[]"]}
    for way, more in ways.items():
        assert fit(cohort, tmp_path / way, *line, *more, epochs=1) == 0
    assert differing(weights(tmp_path / "device"), weights(tmp_path / "loader")) == []
    assert differing(weights(tmp_path / "device"), weights(tmp_path / "without"))


@pytest.mark.parametrize("size", [(8, 6), (4, 5, 6)])
def test_a_sample_is_changed_by_its_seed_alone(size: tuple[int, ...]) -> None:
    transform = importlib.import_module("my_transform").BiasField(0.5)
    batch = tiny_batch(2, 1, size=size, items=3)._replace(seed=torch.tensor([3, 2**40, 7]))
    batch = batch._replace(image=batch.image.abs() + 1)
    changed = transform(batch)
    gain = (changed.image / batch.image).log()
    axes = tuple(range(1, gain.ndim))
    assert 0.1 < gain.abs().max() <= 0.5 * len(size)
    torch.testing.assert_close(gain.mean(axes), torch.zeros(3), atol=1e-5, rtol=0)  # a ramp about the patch's middle
    torch.testing.assert_close(gain[:, 0], gain[:, 1], atol=1e-5, rtol=0)
    assert (gain[0] - gain[1]).abs().max() > 0.1
    alone = transform(Batch(*(field[2:] for field in batch)))
    assert torch.equal(alone.image, changed.image[2:])
