"""From where a run goes on: its last checkpoint, else its newest whole one, and the split that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from segan_pl.data.split.record import Split
from segan_pl.errors import UsageError
from segan_pl.evaluation.saved_files import json_file, mapping, metrics_rows, yaml_file
from segan_pl.inference.checkpoint_file import READERS, CheckpointError, own_part, read_checkpoint, stored_settings
from segan_pl.recipe import flatten
from segan_pl.training.run.folder import RunDirectoryError, differences, has_trained


class Continuation(NamedTuple):
    """Where a `fit` begins.

    Attributes:
        checkpoint: To go on from; None for a new run.
        notes: What the user should know, e.g. that last.ckpt is damaged.
        epochs: That the checkpoint has trained; None where it does not say.
    """

    checkpoint: Path | None
    notes: tuple[str, ...] = ()
    epochs: int | None = None


class Found(NamedTuple):
    """A whole checkpoint of ours.

    Attributes:
        path: The file.
        epoch: That it was written in.
        batches: Of training, seen until then.
        settings: Of its run, or empty.
        epochs: That were trained to their end; None where it does not say.
    """

    path: Path
    epoch: int
    batches: int
    settings: Mapping[str, Any]
    epochs: int | None

    @property
    def words(self) -> str:
        """The file and how far it is."""
        return f"{self.path.name} (epoch {self.epoch}, {self.batches} batches seen)"


class NothingToTrain(Exception):  # noqa: N818 - the run ended well
    """A run has as many epochs as are asked for already, which is no failure; the arguments are lines that say so."""


def continuation(
    directory: Path,
    config: Mapping[str, Any],
    *,
    given: Path | None = None,
) -> Continuation:
    """Where a `fit` in this folder begins.

    Args:
        directory: The run's.
        config: Its settings now.
        given: `--ckpt_path`: where a new folder begins; in one that has trained, its last checkpoint is further on.

    Raises:
        RunDirectoryError: The folder holds a run with another configuration, or a trained one without a whole
            checkpoint.
        CaseError: A file of the run cannot be read.
    """
    if not has_trained(directory):
        return Continuation(given, epochs=_epochs(read_checkpoint(given)) if given else None)
    if (directory / "config.yaml").is_file():
        require_same(directory, yaml_file(directory / "config.yaml"), config)
        require_records(directory)
        return _chosen(directory, given)[0]
    found, source = _chosen(directory, given)  # its configuration is in the checkpoint, too
    if source is not None and source.path.parent == directory / "checkpoints":
        require_same(directory, source.settings, config)
    require_records(directory)
    return found


def require_more(begin: Continuation, directory: Path, last: int | None) -> None:
    """Refuse to begin where no epoch is left, before the run's configuration is written again.

    Args:
        begin: Where the `fit` begins.
        directory: The run's, as it is named to the user.
        last: `--trainer.max_epochs`; None or -1 where epochs do not end the run.

    Raises:
        NothingToTrain: The run in the folder has them all.
        UsageError: The checkpoint that a new folder begins with has them all.
    """
    if begin.checkpoint is None or begin.epochs is None or last is None or not -1 < last <= begin.epochs:
        return
    epochs = f"{begin.epochs} epoch{'' if begin.epochs == 1 else 's'}"
    if not has_trained(directory):
        raise UsageError(f"{begin.checkpoint} already has {epochs}; give a larger --trainer.max_epochs (now {last})")
    end = f"{directory} already has {epochs}; nothing to train (--trainer.max_epochs {last}); give more"
    # it does not continue
    raise NothingToTrain(*(note for note in begin.notes if note.startswith("note: ")), end)


def require_same(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise RunDirectoryError where a run's configuration is another, but for settings that are free to differ."""
    if "segmentor" in (before.get("model") or {}):  # since then below "networks"
        raise RunDirectoryError(
            f"{directory} holds a run of the first version, which commit {READERS[1]} of segan_pl continues; choose "
            f"another --run.directory"
        )
    if "over" in ((before.get("data") or {}).get("preparation") or {}):  # since then "statistics_mask"
        raise RunDirectoryError(
            f"{directory} holds a run of an earlier version, which commit {READERS[2]} of segan_pl continues; choose "
            f"another --run.directory"
        )
    if differing := differences(flatten(before), flatten(now)):
        raise RunDirectoryError(
            f"{directory} holds a run with another configuration ({'; '.join(differing[:5])}); "
            f"choose another --run.directory or the same settings"
        )


def require_records(directory: Path) -> None:
    """Read the records that a run adds to, so that a damaged one is told before hours of work.

    Raises:
        CaseError: One cannot be read.
    """
    json_file(directory / "environment.json")
    metrics_rows(directory / "metrics.csv")
    if (directory / "split.json").exists():
        Split.load(directory / "split.json", val="free")


def _chosen(directory: Path, given: Path | None) -> tuple[Continuation, Found | None]:
    """The last checkpoint where it is whole; else --ckpt_path if it is of this folder, else what is furthest on."""
    last, folder = directory / "checkpoints" / "last.ckpt", directory / "checkpoints"
    own = given is not None and given.resolve().parent == folder.resolve()
    found, why = _look(last)
    if found is not None:
        back = f"; to go back to {given.name}, remove it" if own and given and given.name != last.name else ""
        note = f"continuing {directory} from {found.words}{back}"
        return Continuation(last, (note, *_left_aside(directory, None if own else given)), found.epochs), found
    if own and given is not None and given.name != last.name:
        return _fallen_back(why, _require(given), given)
    others = [path for path in sorted(folder.glob("*.ckpt")) if path != last]
    candidates = [*others, *([given] if given and not own else [])]
    whole = [one for one, _ in map(_look, candidates) if one is not None]
    if whole:
        begin, furthest = _fallen_back(why, max(whole, key=lambda one: one.batches), given)
        aside = _left_aside(directory, None if own or furthest.path == given else given)
        return begin._replace(notes=(*begin.notes, *aside)), furthest
    if not others and not last.exists() and given is None and _ended_in_first_epoch(directory):
        note = f"{directory} holds a run that ended before its first checkpoint; it begins again"
        return Continuation(None, (note,)), None
    made = (
        ("rows in metrics.csv", len(metrics_rows(directory / "metrics.csv"))),
        ("files in scores", len(list(directory.glob("scores/*")))),
        ("files in checkpoints", len(list(directory.glob("checkpoints/*.ckpt")))),
    )
    traces = ", ".join(f"{count} {what}" for what, count in made if count)
    raise RunDirectoryError(
        f"{directory} holds a trained run ({traces}) but no whole checkpoint (last.ckpt {why}); put a copy "
        f"back, continue one with --ckpt_path, train in another --run.directory, or remove this folder"
    )


def _fallen_back(why: str, found: Found, given: Path | None) -> tuple[Continuation, Found]:
    reason = "as --ckpt_path says" if found.path == given else "the newest whole checkpoint"
    note = (
        f"note: last.ckpt {why}: the run goes on from {found.words}, {reason}; rows of metrics.csv and scores after it "
        f"are replaced as training passes them"
    )
    return Continuation(found.path, (note,), found.epochs), found


def _left_aside(directory: Path, given: Path | None) -> tuple[str, ...]:
    """What is said of a --ckpt_path of another run that is not taken."""
    if given is None:
        return ()
    return (
        f"note: --ckpt_path {given} is not used, since {directory} has trained and goes on from its own checkpoint; to "
        f"begin with the other one, give another --run.directory",
    )


def _look(path: Path) -> tuple[Found | None, str]:
    """A checkpoint if it is whole, else why it cannot be used."""
    try:
        return _require(path), ""
    except FileNotFoundError:
        return None, "is missing"
    except (CheckpointError, OSError) as error:
        reason = str(error).removeprefix(f"{path}").lstrip(": ")
        # whose second half names the commit that reads it
        if "this version reads format" not in reason:
            reason = reason.partition("; ")[0]
        return None, f"is a {reason}" if reason.startswith("damaged") else reason


def _require(path: Path) -> Found:
    """A checkpoint of ours.

    Raises:
        CheckpointError: It is damaged or none of ours.
    """
    checkpoint = read_checkpoint(path)
    ours = own_part(checkpoint, path)
    epoch, batches = int(checkpoint["epoch"]), int(ours["batches_seen"])
    return Found(path, epoch, batches, stored_settings(ours, path), _epochs(checkpoint))


def _epochs(checkpoint: Mapping[str, Any]) -> int | None:
    """How many epochs were trained to their end, as Lightning counts them; None where the file does not say."""
    try:
        # not "completed", which grows after the hook that saves; an epoch that was cut off is in neither
        return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    except (KeyError, TypeError):
        return None


def _ended_in_first_epoch(directory: Path) -> bool:
    """Whether all that is there is what the first epoch leaves before its checkpoint."""
    rows = metrics_rows(directory / "metrics.csv")
    scores = [path.name for path in directory.glob("scores/*")]
    return all(int(row["epoch"]) == 0 for row in rows) and all(name.startswith("val_epoch_0000") for name in scores)


def saved_split(directory: Path | None, checkpoint: str | None, root: str) -> Path | None:
    """The split that the run's folder holds, or that of the run which a checkpoint comes from; not for other data.

    A split drawn again, with cases that came since, could put what was trained on into validation.
    """
    homes = [*([directory] if directory else []), *([Path(checkpoint).resolve().parent.parent] if checkpoint else [])]
    for home in homes:
        if (home / "split.json").is_file() and (home / "config.yaml").is_file():
            before = mapping(yaml_file(home / "config.yaml").get("data")).get("root", "")
            if Path(before).expanduser().resolve() == Path(root).expanduser().resolve():
                return home / "split.json"
    return None


def source_split(checkpoint: str | None, data: Mapping[str, Any]) -> Path | None:
    """The split of the run that a new run begins with, for the same data and settings of the split; else None.

    Drawn again, for other modalities perhaps from other cases, it could put what the source was trained on into
    validation; that is said.
    """
    if not checkpoint or data.get("split_file") or not (file := Path(checkpoint).expanduser().resolve()).is_file():
        return None
    home = file.parent.parent
    kept = all((home / name).is_file() for name in ("split.json", "config.yaml"))
    if not kept or saved_split(home, None, data["root"]) is None:
        _note_another_split(home, "another --root" if kept else "it has no split.json and config.yaml")
        return None
    before = mapping(yaml_file(home / "config.yaml").get("data"))
    drawn = ("val_fraction", "test_fraction", "stratify_by", "split_seed", "unlabelled", "n_labelled")
    names = ("split_file", "fold", *drawn)
    differing = [name for name in names if before.get(name) != data.get(name)]
    if differing:
        _note_another_split(home, f"another --data.{differing[0]}")
        return None
    return home / "split.json"


def _note_another_split(home: Path, why: str) -> None:
    rank_zero_info(
        f"note: the split is not that of {home} ({why}); what that run was trained on may be among the validation cases"
    )
