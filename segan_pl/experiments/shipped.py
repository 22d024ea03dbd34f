"""Configuration files by name: `--config segan_cat` finds what travels with the package, a path works as always."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from segan_pl.errors import UsageError, closest, nearest
from segan_pl.experiments.config_layers import kept_of_system, narrowed_modalities, read_config, shown, stated_layout

FOLDERS = (
    *("presets", "systems", "objectives", "stabilisers", "data", "preparation", "augmentation", "finetuning", "debug"),
    ".",
)
FLAGS = ("--config", "-c")
SWITCHES = ("--overwrite", "--dry_run", "--probabilities", "--uncertainty", "--skip_empty")
"""Options of the commands of one folder that are true or false; a folder that follows one is not its value."""
SECTIONS = ("model", "data", "trainer", "run", "finetuning")
_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """The folder "configs" or "sweeps": inside the package when installed from a wheel, next to it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def shipped_configs() -> dict[str, Path]:
    """Name to file of every shipped configuration; an earlier folder of `FOLDERS` wins."""
    root = shipped_folder("configs")
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*.yaml")):
            found.setdefault(path.stem, path.resolve())
    return found


def find_config(name: str) -> Path:
    """The file that `--config NAME` means.

    Args:
        name: A path to an existing file, which wins, or the stem of a shipped file.

    Raises:
        UsageError: Neither; with the nearest shipped names, or all where none is near.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = shipped_configs()
    stem = name.removesuffix(".yaml")
    if stem not in shipped:
        # a list of 80 names would hide those that may be meant
        match = closest(stem, shipped)
        near = sorted(
            {name for name in shipped if len(stem) > 2 and name.startswith(stem)} | ({match} if match else set())
        )
        meant = f"did you mean {' or '.join(map(repr, sorted(near)))}?" if near else nearest(stem, shipped)
        raise UsageError(f"--config {name}: no such file, and no shipped configuration; {meant}")
    return shipped[stem]


def made_for(layout: str) -> tuple[str | None, str | None]:
    """The shipped preset and the shipped data file that are made for a layout; None where there is none."""
    from segan_pl.data.layouts.brats import BRATS

    if layout in [year.NAME for year in BRATS]:
        return "brats_quick", "brats"
    found: list[str | None] = []
    for folder in ("presets", "data"):
        files = sorted((shipped_folder("configs") / folder).glob("*.yaml"))
        found.append(next((path.stem for path in files if stated_layout([path]) == layout), None))
    return found[0], found[1]


def find_sweep(name: str) -> Path:
    """The sweep file that a name means: a path to an existing file, which wins, or the stem of a shipped one.

    Raises:
        UsageError: Neither; with the nearest shipped name and the list.
    """
    return _find(name, shipped_folder("sweeps"), f"sweep {name}: no such file, and no shipped sweep")


def find_cluster(name: str, option: str = "--config") -> Path:
    """The same of a file that says what a job asks Slurm for; `option` gave the name.

    Raises:
        UsageError: Neither; with the nearest shipped name and the list.
    """
    folder = shipped_folder("configs") / "cluster"
    return _find(name, folder, f"{option} {name}: no such file, and none of configs/cluster")


def _find(name: str, folder: Path, otherwise: str) -> Path:
    """A path to an existing file, or a shipped one by its stem."""
    if Path(name).expanduser().is_file():
        return Path(name).expanduser()
    shipped = {path.stem: path.resolve() for path in sorted(folder.glob("*.yaml"))}
    stem = name.removesuffix(".yaml")
    if stem not in shipped:
        raise UsageError(f"{otherwise}; {nearest(stem, shipped)}")
    return shipped[stem]


def resolve_config_arguments(argv: Sequence[str]) -> list[str]:
    """A command line with every `--config NAME`, `-c NAME` and `--config=NAME` turned into a path, before all options.

    Behind a data file, a file without a model that states a layout, the modalities are those that both the system asks
    for and the data set has, in the system's order: a data file says what there is, and not what is trained on. Behind
    an objective file the supervised loss, networks and optimisers are those of the system that the file does not state.

    Raises:
        UsageError: No such file, one (or a section of one) that is no YAML mapping, an empty one, or a data set without
            any of the system's modalities.
    """
    out: list[str] = []
    for argument in with_data_root(argv):
        flag, equals, value = argument.partition("=")
        if out and out[-1] in FLAGS:
            out.append(str(find_config(argument)))
        elif equals and flag in FLAGS:
            out.extend((flag, str(find_config(value))))
        else:
            out.append(argument)
    for path in config_paths(out):
        if not read_config(path):
            raise UsageError(f"--config {path}: holds no setting; leave it out, or give some")
        for section, content in read_config(path).items():
            if section in SECTIONS and not isinstance(content, dict):
                raise UsageError(
                    f"--config {path}: {section}: expected 'key: value' lines below it, found {shown(content)}"
                )
    paths = config_paths(out)
    flags = {str(path): [f"--data.modalities=[{','.join(left)}]"] for path, left in narrowed_modalities(paths)}
    return _files_first(out, {**flags, **dict(kept_of_system(paths))})


def with_data_root(argv: Sequence[str]) -> list[str]:
    """A command line with `--root`, the short form of `--data.root` in every command, as that.

    What follows "--", the arguments of another command, is left as it is.
    """
    end = list(argv).index("--") if "--" in argv else len(argv)
    own = [f"--data.root{one[6:]}" if one.partition("=")[0] == "--root" else one for one in argv[:end]]
    return [*own, *argv[end:]]


def with_folder_as_root(argv: Sequence[str]) -> list[str]:
    """A command and its options with a folder, or a manifest, that no option stands before, as `--root`.

    Args:
        argv: The command, and what follows it.

    Raises:
        UsageError: There are two, `--root` is given as well, or a word where a folder may stand is none.
    """
    end = list(argv).index("--") if "--" in argv else len(argv)
    alone = [
        place
        for place in range(1, end)
        if not argv[place].startswith("-")
        and ("=" in argv[place - 1] or argv[place - 1] in SWITCHES or not argv[place - 1].startswith("-"))
        and (Path(argv[place]).expanduser().is_dir() or Path(argv[place]).suffix in (".csv", ".tsv"))
    ]
    if not alone:
        words = [
            argv[place]
            for place in range(1, end)
            if not argv[place].startswith("-")
            and (place == 1 or (argv[place - 2] in FLAGS and not argv[place - 1].startswith("-")))
        ]
        if words:
            raise UsageError(f"{words[0]}: {_meant(words[0], argv[:end])}")
        return list(argv)
    given = [argv[place] for place in alone]
    named = [one for option in ("--root", "--data.root") if (one := option_value(argv[:end], option))]
    if len(given) > 1 or named:
        raise UsageError(f"{' and '.join([*named, *given])}: expected one data set; give --root once")
    return [*argv[: alone[0]], f"--root={given[0]}", *argv[alone[0] + 1 :]]


def _meant(word: str, argv: Sequence[str]) -> str:
    """What to do about a word of a command line that stands where a folder may and is none."""
    if word in shipped_configs() or Path(word).suffix in (".yaml", ".yml"):
        return f"no option stands before it; a configuration is given as -c {word}"
    if Path(word).suffix in (".ckpt", ".onnx"):
        return f"no option stands before it; a checkpoint is given as --ckpt_path {word}"
    if any(option_value(argv, option) for option in ("--root", "--data.root")):
        return "no option stands before it; --root names the data set already, a name with spaces is given in quotes"
    found = "is a file" if Path(word).expanduser().is_file() else "no such folder"
    return f"{found}; give the folder of cases, a name with spaces in quotes"


def _files_first(argv: Sequence[str], flags: Mapping[str, list[str]]) -> list[str]:
    """A command line whose files come before every option, so that what is typed wins wherever it is typed.

    Args:
        argv: Its files are paths; what follows "--" is left where it is.
        flags: A file's path to the options that follow it.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    files: list[str] = []
    others: list[str] = []
    number = 0
    while number < end:
        pair = argv[number : min(number + 2, end)]
        if pair[0] in FLAGS and len(pair) == 2:
            files += [*pair, *flags.get(pair[1], [])]
            number += 2
        else:
            others.append(pair[0])
            number += 1
    place = next((number for number, argument in enumerate(others) if argument.startswith("-")), len(others))
    return [*others[:place], *files, *others[place:], *argv[end:]]


def config_paths(argv: Sequence[str]) -> list[Path]:
    """The configuration files of a command line that `resolve_config_arguments` returned, left to right."""
    return [Path(value) for flag, value in pairwise(argv) if flag in FLAGS]


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option on a command line, as `--name value` or `--name=value`; of several the last, which counts.

    Args:
        arguments: What was typed.
        name: With its dashes, e.g. "--ckpt_path".
    """
    found = None
    for number, argument in enumerate(arguments):
        if argument == name and number + 1 < len(arguments):
            found = arguments[number + 1]
        elif argument.startswith(f"{name}="):
            found = argument.partition("=")[2]
    return found
