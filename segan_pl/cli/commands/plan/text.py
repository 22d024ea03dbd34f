"""A plan as YAML for a reader: each choice with its reason beside it, or above it where the line is full."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segan_pl.cli.commands.plan.choices import Chosen
from segan_pl.experiments.config_layers import shown

WIDTH = 120
MARK = "# segan_pl plan: "


def plan_text(head: Sequence[str], plan: Mapping[str, Any]) -> str:
    """The file.

    Args:
        head: Sentences of its first lines.
        plan: Settings nested as in the file; leaves are plain values or `Chosen`.
    """
    comments = [
        MARK + head[0],
        *(
            f"# {line}"
            for one in head[1:]
            for line in textwrap.wrap(one, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
        ),
    ]
    return "\n".join([*comments, *_lines(plan, "")]) + "\n"


def _lines(settings: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
            continue
        chosen = value if isinstance(value, Chosen) else Chosen(value)
        line = f"{indent}{name}: {shown(chosen.value)}"
        if not chosen.why:
            yield line
        elif len(beside := f"{line}  # {chosen.why}") <= WIDTH:
            yield beside
        else:
            yield from (f"{indent}# {part}" for part in textwrap.wrap(chosen.why, WIDTH - len(indent) - 2))
            yield line
