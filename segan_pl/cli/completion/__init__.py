"""Completion by the shell: what an option's value may be (here), and the script (`script.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segan_pl.cli.mistakes import members

# what shtab calls its own functions; the script defines the last
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}
FOLDERS = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/"}
CONFIGS = {"bash": "_segan_pl_configs", "zsh": "_segan_pl_configs"}


def completer_of(name: str, settings: Mapping[str, Any]) -> dict[str, str] | None:
    """The functions of bash and zsh that complete an option; None where the parser's own choices do.

    Args:
        name: The option's, without hyphens.
        settings: What `add_argument` was given.
    """
    if settings.get("choices"):
        return None
    if name == "config":
        return CONFIGS
    if name in ("root", "data.root", "output"):
        return FOLDERS if name != "output" else FILES
    kinds = {*members(settings.get("type"))} - {type(None)}
    return FILES if kinds and kinds <= {str, Path, list[str], list[Path]} else None
