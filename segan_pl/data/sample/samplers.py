"""Batches as plans: what is drawn in the main process before any voxel is read, and the samplers that draw it.

All random numbers of a batch are a function of (seed, epoch, batch) and drawn as a `Plan`; a worker only carries it
out. So order and places do not depend on the number of workers, and a resumed run repeats exactly what the
uninterrupted one would have drawn. What is done to a sample later follows from its seed, which is part of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from segan_pl.data.sample.case_index import CaseIndex, prepared
from segan_pl.data.sample.options import Sampling

# In place of the number of a slice it says that the depth is drawn like the other axes.
ANYWHERE = -1
# In whole volumes of IBSR18 three places in four have less brain than Mondal asks for, in the box around the brain one
# in twenty; with ten places one patch in twenty stays below, or none.
OTHER_PLACES = 9
Plan_co = TypeVar("Plan_co", covariant=True)


class Pool(NamedTuple):
    """What may be drawn in an epoch, all arrays (N,): a patch of a case, or one of its slices.

    Attributes:
        case: Row of the case.
        z: Slice in the prepared volume, never of the padding; ANYWHERE for a patch of the whole case.
        empty: Whether no voxel of the slice is in a channel that is scored.
    """

    case: NDArray[np.int32]
    z: NDArray[np.int32]
    empty: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        cases: Sequence[CaseIndex],
        sampling: Sampling,
        patch: Sequence[int],
        foreground: tuple[int, ...] | None,
        *,
        first: int = 0,
    ) -> Pool:
        """All slices of some cases where every slice is drawn, else so many patches of each case.

        Args:
            cases: Their masks are read only where empty slices are told from others.
            sampling: How many.
            patch: (H, W) or (D, H, W).
            foreground: Native labels that are scored; None for unlabelled cases, of which every slice is drawn.
            first: Row of the first case.
        """
        if not sampling.every_slice(patch):
            rows = np.repeat(np.arange(first, first + len(cases), dtype=np.int32), sampling.per_case or 1)
            return cls(rows, np.full(len(rows), ANYWHERE, np.int32), np.zeros(len(rows), bool))
        slices = [np.arange(one.real_box[0].start, one.real_box[0].stop, dtype=np.int32) for one in cases]
        rows = np.repeat(np.arange(first, first + len(cases), dtype=np.int32), [len(z) for z in slices])
        empty = np.zeros(len(rows), bool)
        if sampling.empty != "keep" and foreground is not None:
            scored = np.zeros(256, bool)
            scored[list(foreground)] = True
            read = (prepared(one.label)[z] for one, z in zip(cases, slices, strict=True) if one.label)
            empty = np.concatenate([~scored[mask].any((1, 2)) for mask in read])
        return cls(rows, np.concatenate(slices), empty)


class Plan(NamedTuple):
    """One batch before any voxel is read; every field (B, ...).

    Attributes:
        case: (B,) row among the training cases.
        z: (B,) slice; ANYWHERE where `corner` says it.
        corner: (B, 3) in [0, 1): where the patch lies between its first and its last possible place (z, y, x).
        foreground: (B,) bool, drawn to a voxel of a scored channel.
        pick: (B,) in [0, 1): which one.
        seed: (B,) of all that is done to the sample later.
        hide: (B, M) in [0, 1), a modality is hidden where it is below the modality dropout; 1 where none may be.
        labelled: (B,) bool: whether the label is read; those with one come first.
        others: (B, N, 3) in [0, 1), further places like `corner`, tried one after the other while the patch has too
            little of the brain; N is 0 where that is not asked for.
    """

    case: NDArray[np.int64]
    z: NDArray[np.int64]
    corner: NDArray[np.float64]
    foreground: NDArray[np.bool_]
    pick: NDArray[np.float64]
    seed: NDArray[np.int64]
    hide: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    others: NDArray[np.float64]

    def take(self, samples: slice) -> Plan:
        """Some of the samples."""
        return Plan(**{name: field[samples] for name, field in self._asdict().items()})


class EpochSampler(Sampler[Plan_co]):
    """Knows its epoch, and how many of its batches a resumed run has done."""

    def __init__(self) -> None:
        self.epoch = 0
        self._done = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it with the number of epochs done, also after a resume."""
        self.epoch = epoch

    def resume(self, epoch: int, batches: int) -> None:
        """Go on in an epoch of which some batches are done; later epochs begin with their first batch."""
        self.epoch, self._done = epoch, (epoch, batches)

    @property
    def first(self) -> int:
        """The batch with which this epoch begins."""
        epoch, batches = self._done
        return batches if epoch == self.epoch else 0


class PlanSampler(EpochSampler[Plan]):
    """Plans of one epoch's batches, split over ranks so that all ranks make the same number.

    Unlabelled patches join the labelled ones, after them in each batch. An epoch is one of the labelled ones, and goes
    through the unlabelled ones as often as it needs.

    Args:
        pool: What is drawn.
        batch_size: Labelled patches a batch and rank; the epoch's last batch may be smaller.
        sampling: How many, and where.
        modalities: M.
        modality_dropout: Chance of each modality of a patch to be hidden.
        least: Patches a rank that the last batch must have; with fewer it is left out.
        seed: Of the run.
        rank: This process.
        world_size: Number of processes; one joined batch is `batch_size * world_size` patches.
        unlabelled: What is drawn independently.
        unlabelled_size: Unlabelled patches a batch and rank.
    """

    def __init__(
        self,
        pool: Pool,
        batch_size: int,
        *,
        sampling: Sampling,
        modalities: int = 1,
        modality_dropout: float = 0.0,
        least: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        unlabelled: Pool | None = None,
        unlabelled_size: int = 0,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.unlabelled = unlabelled
        self.joined_unlabelled = unlabelled_size * world_size
        self.joined = batch_size * world_size
        self.sampling = sampling
        self.modalities = modalities
        self.modality_dropout = modality_dropout
        self.least = least
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._filled = np.flatnonzero(~pool.empty)
        self._empty = np.flatnonzero(pool.empty)

    @property
    def patches(self) -> int:
        """Labelled patches an epoch."""
        if self.sampling.batches is not None:
            return self.sampling.batches * self.joined
        if self.sampling.empty == "keep":
            return len(self.pool.case)
        drawn = 0 if self.sampling.empty == "drop" else min(len(self._empty), len(self._filled))
        return len(self._filled) + drawn

    def __len__(self) -> int:
        """Batches an epoch; of the last one, what the ranks cannot share equally is left out."""
        full, tail = divmod(self.patches, self.joined)
        return full + (tail >= self.least * self.world_size)

    def __iter__(self) -> Iterator[Plan]:
        order = self._order(self._stream())
        others = self._order_of_unlabelled(self._stream(0, 1))
        for number in range(self.first, len(self)):
            # 0 is the order's
            plan = self._draw(self.pool, order, number, self.joined, self._stream(1 + number))
            if self.unlabelled is not None:
                rng = self._stream(1 + number, 1)
                more = self._draw(self.unlabelled, others, number, self.joined_unlabelled, rng)
                more = more._replace(foreground=more.foreground & False, labelled=more.labelled & False)
                plan = Plan(*(np.concatenate(fields) for fields in zip(plan, more, strict=True)))
            yield plan

    def _stream(self, *numbers: int) -> np.random.Generator:
        """NumPy pads with zeros, so that numbers which end in 0 are no stream of their own."""
        return np.random.default_rng([self.seed, self.epoch, *numbers])

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the pool, in the epoch's order."""
        if self.sampling.batches is not None:
            return rng.integers(len(self.pool.case), size=self.patches)
        if self.sampling.empty == "keep":
            return rng.permutation(len(self.pool.case))
        drawn = rng.permutation(self._empty)[: self.patches - len(self._filled)]
        return rng.permutation(np.concatenate([self._filled, drawn]))

    def _order_of_unlabelled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows of the unlabelled pool: each once before any comes again, as many as the epoch's batches take."""
        needed, size = len(self) * self.joined_unlabelled, len(self.unlabelled.case) if self.unlabelled else 0
        if not needed or not size:
            return np.zeros(0, np.int64)
        if self.sampling.batches is not None:
            return rng.integers(size, size=needed)
        return np.concatenate([rng.permutation(size) for _ in range(-(-needed // size))])

    def _draw(self, pool: Pool, order: NDArray[np.int64], number: int, joined: int, rng: np.random.Generator) -> Plan:
        """This rank's share of a joined batch.

        What is hidden, and further places, come last and only where they are asked for, so that other draws are the
        same without them.
        """
        rows = order[number * joined : (number + 1) * joined]
        size, hidden = len(rows), (len(rows), self.modalities)
        corner, foreground, pick = rng.random((size, 3)), rng.random(size), rng.random(size)
        seed = rng.integers(2**63, size=size)
        hide = rng.random(hidden) if self.modality_dropout else np.ones(hidden)
        others = rng.random((size, OTHER_PLACES if self.sampling.brain else 0, 3))
        case, z = (field[rows].astype(np.int64) for field in pool[:2])
        # The shares are equal, so that the mean over ranks is the mean over patches.
        share = size // self.world_size
        drawn_to = foreground < self.sampling.foreground
        drawn = Plan(case, z, corner, drawn_to, pick, seed, hide, np.ones(size, bool), others)
        return drawn.take(slice(self.rank * share, (self.rank + 1) * share))


class SameEveryEpoch(EpochSampler[Any]):
    """The plans of a sampler's epoch 0 in every epoch; one that was broken off goes on with its next batch."""

    def __init__(self, sampler: Any) -> None:
        super().__init__()
        self.sampler = sampler
        self.epoch, self._done = sampler.epoch, sampler._done

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        self.sampler.resume(0, self.first)
        return iter(self.sampler)


def ranks_of(trainer: Any) -> dict[str, int]:
    """`rank` and `world_size` of a sampler in this process; without a trainer it is alone."""
    return {"rank": trainer.global_rank, "world_size": trainer.world_size} if trainer else {"rank": 0, "world_size": 1}


def own_cases(costs: Sequence[int], trainer: Any, *, rank: int, world_size: int) -> list[int]:
    """The places of the cases that this rank scores, in order; each case is on one rank.

    The largest case that is left goes to the rank that has least to do, so that ranks end together. Where the trainer
    has a limit, which it counts on each rank, every rank has every `world_size`-th case (`evaluation.tables.limited`).

    Args:
        costs: Of each case, e.g. its voxels; above 0.
        trainer: None for none.
        rank: This process.
        world_size: Number of processes, at most that of the cases.
    """
    limits = [getattr(trainer, f"limit_{stage}_batches", 1.0) for stage in ("val", "test", "predict")]
    if any(isinstance(limit, int) or limit < 1 for limit in limits):
        return list(range(rank, len(costs), world_size))
    shares: list[list[int]] = [[] for _ in range(world_size)]
    done = [0] * world_size
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        idle = done.index(min(done))
        shares[idle].append(place)
        done[idle] += costs[place]
    return sorted(shares[rank])


def done_so_far(trainer: Any) -> tuple[int, int]:
    """Epochs done, and batches done of one that was broken off: where the training loader begins."""
    epoch, batch = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress.current
    return epoch.processed, batch.processed if epoch.started > epoch.processed else 0
