"""The command `segan_pl`: help and version at once; PyTorch is loaded when a command asks for it."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

from segan_pl import __version__
from segan_pl.errors import UsageError, nearest, raised_here

COMMANDS = {
    "fit": "train from MRI files to the best checkpoint",
    "validate": "score a checkpoint on the validation cases",
    "test": "score a checkpoint on the test cases, one row a case",
    "check": "read every byte of a data set, table and refuse what is wrong",
    "split": "part a data set into train, validation, test or folds",
    "prepare": "check and preprocess a data set into the cache",
    "predict": "segment the cases of a folder, each on its own grid",
    "postprocess": "choose post-processing on a run's validation cases",
    "evaluate": "score segmentation files against masks, case by case",
    "compare": "compare two runs or more over the same cases",
    "report": "one page about runs, from their saved files",
    "sweep": "run a W&B sweep file here: grid, random or bayes",
    "experiment": "a paper's tables or a cross-validation, from one command",
    "demo": "generate a small cohort, train on it, show the scores",
}

# Modules of segan_pl.commands.
WITHOUT_TRAINER = (
    *("check", "split", "prepare", "predict", "postprocess", "evaluate", "compare", "report", "sweep", "experiment"),
)

HELP = f"""usage: segan_pl [--version] [--help] [--debug] COMMAND [options]

Train, ablate and compare adversarial brain-MRI segmentation.

commands:
{chr(10).join(f"  {name:12}{line}" for name, line in COMMANDS.items())}

options come after the command:
  -c, --config NAME     a YAML file, or a shipped one by name (segan_cat); several are read from left to right
  --KEY.KEY VALUE       overrides one value, e.g. --data.root /data/BraTS2019 --trainer.max_epochs 50
  --print_config        shows the resulting configuration
  -h, --help            all options of the command
  --debug               shows the traceback of an error

exit codes: 0 all went well, 1 something failed, 2 something was typed wrongly, 130 stopped with Ctrl-C,
143 stopped by SIGTERM (as schedulers do)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default this process's own).

    Returns:
        The exit code; errors are one line on stderr, with the traceback when `--debug` stands on the line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        print(f"segan_pl {__version__}")
        return 0
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit 1
            return 130
        if type(end).__name__ == "SIGTERMException":  # Lightning's, which carries no code
            print("segan_pl: stopped by SIGTERM", file=sys.stderr)
            return 143
        raise
    except Exception as error:
        return _report(error, debug)


def _dispatch(arguments: list[str]) -> int:
    """Hand the line to its command; those with a trainer import PyTorch and Lightning."""
    if arguments[0] not in COMMANDS:
        raise UsageError(f"unknown command {arguments[0]!r}; {nearest(arguments[0], COMMANDS)}")
    if arguments[0] in WITHOUT_TRAINER:
        return int(importlib.import_module(f"segan_pl.commands.{arguments[0]}").main(arguments))
    from segan_pl import cli

    return cli.main(arguments)


def _report(error: Exception, debug: bool) -> int:
    """Print an error; one that nobody foresaw keeps its traceback, because a long run cannot be repeated for it."""
    foreseen = _is_foreseen(error)
    if debug or not foreseen:
        traceback.print_exception(error)
    text = " ".join(_reason(error).split()) or type(error).__name__
    print(f"segan_pl: error: {text if foreseen else f'unforeseen {type(error).__name__}: {text}'}", file=sys.stderr)
    return int(getattr(error, "exit_code", 1))


def _reason(error: Exception) -> str:
    """The error's text; of one that a loader's worker sent with its traceback, the text that was raised there."""
    text = str(error)
    if not (text.startswith("Caught ") and " in DataLoader worker process" in text):
        return text
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return text.strip().splitlines()[-1].removeprefix(f"{name}: ")


def _is_foreseen(error: Exception) -> bool:
    """Whether the message was written for the user: by the operating system, Lightning's checks or this package."""
    kind = type(error)
    ours = kind.__module__.startswith("segan_pl.") or raised_here(error)
    return ours or isinstance(error, OSError) or kind.__name__ == "MisconfigurationException"


if __name__ == "__main__":
    sys.exit(main())
