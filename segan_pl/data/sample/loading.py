"""How many loader processes pay: by the job's cores, the room in shared memory, and what an epoch reads."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing import queues
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from segan_pl.data.case import CaseError
from segan_pl.data.case_pool import cores

# Linux keeps the memory here in which a worker hands over its batches.
SHARED = Path("/dev/shm")
# Each worker keeps so many batches ready: PyTorch's default.
PREFETCHED = 2
# The training process holds the step's batch, and the one that Lightning fetches ahead.
IN_HAND = 2
# No step waits for more workers than these.
MOST = 8
# So many workers read whole cases: predicting a case takes far longer than reading it.
READING = 2
CORES_OF_A_STEP = 8
"""Cores for which one worker pays where the step runs on them: taking one of c costs the step 1 / (c - 1) of its work a
core, 1 / (c (c - 1)) of all of it; AlbuNet's augmentation, the dearest shipped, is 0.027 of its step's work (one thread
each, AMD EPYC), and cropping alone 0.001 to 0.01."""
# Linux's prctl calls it PR_SET_PDEATHSIG.
PARENT_DEATH = 1
# These signals are meant for the run and are no matter of a worker.
OF_THE_RUN = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# An epoch of fewer bytes is loaded sooner than processes start.
TINY = 64 * 2**20


class Loads(NamedTuple):
    """What the loaders of one rank hand over, in bytes.

    Attributes:
        batch: The training batch; 0 where nothing is trained.
        case: The largest whole case that is scored; 0 where none is.
        epoch: All training batches of an epoch, or all cases where nothing is trained.
    """

    batch: int
    case: int
    epoch: int


class Workers(NamedTuple):
    """Loader processes of one rank.

    Attributes:
        training: For training batches.
        scoring: For whole cases.
        why: In words.
    """

    training: int
    scoring: int
    why: str


def choose_workers(asked: int | Literal["auto"], loads: Loads, trainer: Any, *, training: bool) -> Workers:
    """How many workers there are, as asked for or as many as pay, which is said.

    Args:
        asked: `--data.workers`.
        loads: Of one rank.
        trainer: Lightning's, or None.
        training: Whether training batches are loaded, or only whole cases.
    """
    ranks = trainer.num_devices if trainer else 1
    if asked != "auto":
        require_shared_memory(loads, asked, ranks=ranks)
        return Workers(asked, asked, "as asked")
    chosen = automatic_workers(
        loads, ranks=ranks, accelerated=bool(trainer and trainer.strategy.root_device.type != "cpu")
    )
    rank_zero_info(f"loader workers: {chosen.training if training else chosen.scoring} ({chosen.why})")
    return chosen


def loader(dataset: Any, sampler: Any, workers: int, *, trainer: Any) -> DataLoader[Any]:
    """A loader of whole batches, or of whole cases: the dataset's items as they are."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        # A generator of its own: starting workers must not move the run's random state.
        generator=torch.Generator(),
        worker_init_fn=begin_worker,
        persistent_workers=workers > 0,
        pin_memory=bool(trainer and trainer.strategy.root_device.type == "cuda"),
    )


def _as_it_is(item: Any) -> Any:
    return item


def batch_bytes(samples: int, modalities: int, channels: int, size: Sequence[int], *, wide: bool = False) -> int:
    """Bytes of a batch: its image and its target of uint8.

    Args:
        samples: B.
        modalities: M, the image's channels.
        channels: C, the target's.
        size: The sample's voxels along each axis.
        wide: Whether the image is float32, as once intensities vary, and not float16.
    """
    return samples * math.prod(size) * (modalities * (4 if wide else 2) + channels)


def shared_memory_needed(loads: Loads, *, training: int, scoring: int, ranks: int = 1) -> int:
    """Bytes of shared memory that fills when every worker is as far ahead as it may be.

    Args:
        loads: Of one rank.
        training: Workers for training batches; 0 loads in the training process, which needs none.
        scoring: Workers for whole cases.
        ranks: Processes on this machine that train together.
    """
    pairs = ((training, loads.batch), (scoring, loads.case))
    return ranks * sum((workers * PREFETCHED + IN_HAND) * size for workers, size in pairs if workers)


def shared_memory_free() -> int | None:
    """Free bytes of /dev/shm; None where there is none."""
    try:
        return shutil.disk_usage(SHARED).free
    except OSError:
        return None


def require_shared_memory(loads: Loads, workers: int, *, ranks: int = 1) -> None:
    """Refuse workers whose batches do not fit into shared memory: the run would wait for a lost batch for ever.

    Args:
        loads: Of one rank.
        workers: As asked for, for training batches and for whole cases each.
        ranks: Processes on this machine that train together.

    Raises:
        CaseError: With the room, the need and the remedies.
    """
    free, needed = shared_memory_free(), shared_memory_needed(loads, training=workers, scoring=workers, ranks=ranks)
    if workers and free is not None and needed > free:
        fewer = "--data.workers auto (as many as fit) or 0"
        raise CaseError(
            f"{SHARED} has {_megabytes(free)} free, --data.workers {workers} may need {_megabytes(needed)} (batches of "
            f"{_megabytes(loads.batch)}, cases of {_megabytes(loads.case)}); give the container more (docker run "
            f"--shm-size={math.ceil(needed * 1.2 / 2**30)}g, or --ipc=host), or {fewer}"
        )


def begin_worker(worker: int) -> None:
    """Make a loader's process end when it should, and only then.

    A signal to the run is none to its workers, which the run needs until the batch's end. So a worker gets a process
    group of its own (Ctrl-C and some launchers signal the run's group), and what reaches it all the same (systemd,
    docker and Slurm signal every process of a job) ends it only where its parent sent it. It ends with its parent,
    whose death it would not notice while it hands over a batch. And it ends when it cannot hand over a batch: PyTorch's
    would go on, and the run would wait for ever.
    """
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
        for number in OF_THE_RUN:
            signal.signal(number, signal.SIG_IGN)
        # A DataLoader ends a worker by this signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parents_signal, args=(os.getppid(),), daemon=True).start()
    queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]


def _end_with_parents_signal(parent: int) -> None:
    """Wait for SIGTERM from the parent; PyTorch's own handler ends by it too, but by anybody's else as well."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


def _end_worker(error: BaseException, item: object) -> None:
    """End as a worker does that finds shared memory full a moment later, while it writes: PyTorch knows that end."""
    os.kill(os.getpid(), signal.SIGBUS if "shared memory" in str(error) else signal.SIGABRT)


def cores_of_a_rank(ranks: int) -> int:
    """Cores for each of the ranks on this machine; a Slurm task's cores are its own and are not shared."""
    if given := os.environ.get("SLURM_CPUS_PER_TASK", ""):
        return min(cores(), int(given)) if given.isdigit() else cores()
    return max(1, cores() // ranks)


def automatic_workers(loads: Loads, *, ranks: int = 1, accelerated: bool = False) -> Workers:
    """How many workers pay, and why not more.

    Args:
        loads: Of one rank.
        ranks: Processes on this machine that train together.
        accelerated: Whether the step runs on a device, so that the cores are free.
    """
    if loads.epoch < TINY:
        return Workers(0, 0, f"an epoch reads {_megabytes(loads.epoch)}, which takes no process of its own")
    own = cores_of_a_rank(ranks)
    free = shared_memory_free()
    if free is None:
        return Workers(0, 0, f"there is no {SHARED}, where workers hand over what they load")
    each = f"{own} core{'s' if own > 1 else ''}{' a rank' if ranks > 1 else ''}"
    wanted = min(MOST, own - 1) if accelerated else min(MOST, own // CORES_OF_A_STEP)
    if wanted == 0:
        step = "the step alone takes" if not accelerated else "the training process takes"
        return Workers(0, 0, f"{each}, which {step}")
    needed = {
        n: shared_memory_needed(loads, training=n, scoring=min(n, READING), ranks=ranks) for n in range(1, wanted + 1)
    }
    # Half of what is free: other processes use the same memory.
    fitting = max((n for n, size in needed.items() if size <= free // 2), default=0)
    if fitting < wanted:
        room = f"{SHARED} has {_megabytes(free)} free, {wanted} workers may need {_megabytes(needed[wanted])}"
        return Workers(fitting, min(fitting, READING), room)
    return Workers(wanted, min(wanted, READING), each)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else "under 1 MB"
