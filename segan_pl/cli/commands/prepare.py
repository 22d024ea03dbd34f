"""`segan_pl prepare`: cases into the cache; what that would take; what in the cache nothing uses any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jsonargparse.typing import PositiveInt

from segan_pl.cli.commands.options import PlaceOptions, parse
from segan_pl.cli.parsing import OneLineErrors
from segan_pl.data.case_pool import cores
from segan_pl.data.prepare.preparation import Preparation
from segan_pl.errors import UsageError

DESCRIPTION = "Prepare cases once, into a cache of memory-mapped arrays; all that the layout finds, complete or not."


@dataclass(frozen=True)
class PrepareOptions(PlaceOptions):
    """What is prepared, and where to; the keys are those of `fit`.

    Attributes:
        preparation: What is done to a volume once; the default is SegAN-CAT's (section IV).
        cache_dir: Where prepared cases lie; default $SEGAN_PL_CACHE, else ~/.cache/segan_pl/prepared.
        prepare_workers: Processes, where --workers is not given; default all cores.
    """

    preparation: Preparation = field(default_factory=Preparation)
    cache_dir: str | None = None
    prepare_workers: int | None = None


def main(arguments: list[str]) -> int:
    """Prepare, or say what it would take, or list or remove orphans; 1 where a case is refused or room is lacking."""
    options, settings = parse(arguments, DESCRIPTION, _add, PrepareOptions)
    if settings.dry_run and settings.orphans:
        raise UsageError("--dry_run and --orphans exclude each other; --orphans list removes nothing")
    # these load nibabel, which --help and a wrong option need not wait for
    from segan_pl.data.prepare.cache import Cache
    from segan_pl.data.prepare.cases import need, prepare_all

    data = options.source()
    cache = Cache(options.cache_dir, options.preparation)
    print(f"cache: {cache.folder}")
    if settings.orphans:
        from segan_pl.data.prepare.cache_orphans import lines, remove, survey
        from segan_pl.data.prepare.cases import size

        root = data.root if data.root.is_dir() else data.root.parent
        found = survey(cache.directory, root)
        orphans = [one for one in found if one.verdict == "orphan"]
        print("\n".join(lines(found, cache.folder)))
        removed, refused = remove(orphans, root) if settings.orphans == "remove" else ([], [])
        for line in refused:
            print(f"refused: {line}")
        end = f" ({size(sum(one.bytes for one in orphans))}); --orphans remove deletes these"
        if settings.orphans == "remove":
            end = f", {len(removed)} removed ({size(sum(one.bytes for one in removed))})"
        print(f"{len(found)} found, {len(orphans)} orphans{end}")
        return 1 if refused else 0
    if settings.dry_run:
        needed = need(data.cases, cache)
        print("\n".join(needed.lines()))
        return 1 if needed.refused or not (needed.fits or needed.bounded) else 0
    asked = options.prepare_workers if settings.workers is None else settings.workers
    report = prepare_all(data.cases, cache, workers=cores() if asked is None else asked)
    print("\n".join([*(f"note: {note}" for note in data.notes), *report.lines()]))
    return 1 if report.refused else 0


def _add(parser: OneLineErrors) -> None:
    parser.add_argument("--workers", type=PositiveInt | None, help="processes; default all cores")
    parser.add_argument("--dry_run", type=bool, default=False, help="say what it would take on the disk; write nothing")
    parser.add_argument(
        "--orphans",
        type=Literal["list", "remove"],
        default=None,
        help="list, or remove, entries whose files changed or are gone, damaged ones, and what dead builders left",
    )
