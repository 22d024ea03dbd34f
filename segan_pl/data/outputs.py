"""What a command may write to: a free place, or a file that the same kind of command made; never what it reads.

A file tells by its first bytes who made it: each `Kind` states a pattern that all of its files begin with and that
other programs' files do not, e.g. the columns of a table or the first keys of a JSON file. Nothing is kept in another
file, so one that was moved, or that an earlier version wrote, is known too (but for figures, which had no mark); one
that was edited below its head counts as ours. A file of 0 bytes holds nothing that could be lost, so it is free.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from segan_pl.data.case import Case
from segan_pl.errors import UsageError
from segan_pl.files import write_whole

# Bytes that a pattern may span; the longest is a table's line of column names.
HEAD = 16_384


@dataclass(frozen=True)
class Kind:
    """A kind of file that a command writes.

    Attributes:
        maker: The command, e.g. "segan_pl check --csv".
        begins: Regular expression of the file's first bytes, as Latin-1; "." matches line ends too.
        unmarked: Whether earlier versions wrote such files without a mark, so that these are not known.
    """

    maker: str
    begins: str
    unmarked: bool = False

    def made(self, file: Path) -> bool:
        """Whether a file is of this kind, or empty.

        Raises:
            UsageError: It cannot be read, so that nobody knows.
        """
        try:
            with file.open("rb") as opened:
                head = opened.read(HEAD)
        except OSError as error:
            raise UsageError(f"{file}: is there and cannot be read ({error.strerror}), so it stays; move it") from error
        return not head or re.match(self.begins, head.decode("latin-1"), re.DOTALL) is not None


@dataclass(frozen=True)
class Output:
    """One file that a command writes.

    Attributes:
        path: Where to.
        kind: What it is.
        given: What was typed, as a refusal begins: "--csv cases.csv".
        inputs: What the command reads, which is never replaced. Of a folder that is every file in it that is not of
            `kind`.
        overwrite: None where the command has no such option: then it replaces its own kind and nothing else. With one,
            False replaces nothing, and True everything but inputs.
        instead: What else may be given where this place is taken; None to tell it by `given`.
    """

    path: Path
    kind: Kind
    given: str
    inputs: tuple[Path, ...] = ()
    overwrite: bool | None = None
    instead: str | None = None

    def require_free(self) -> None:
        """Refuse to replace what must stay; called before the work, and by `write`.

        Raises:
            UsageError: The path is a folder or a device, a file that the command reads, or one that it did not make.
        """
        if not self.path.exists():
            return
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "is no regular file"
            raise UsageError(f"{self._place}: {what}, expected a file; {self._remedies('move it')}")
        ours = self.kind.made(self.path)
        # By whatever name; of a folder that is read, what the command itself wrote there may go.
        if any(
            not ours and self.path.resolve().is_relative_to(one.resolve())
            if one.is_dir()
            else one.exists() and os.path.samefile(self.path, one)
            for one in self.inputs
        ):
            raise UsageError(f"{self._place}: is a file that the command reads; it stays as it is, {self._remedies()}")
        if self.overwrite is False and self.path.stat().st_size:
            raise UsageError(f"{self._place}: is there already; choose another name or add --overwrite")
        if not ours and not self.overwrite:
            earlier = " (or by an earlier version, which left no mark in it)" if self.kind.unmarked else ""
            raise UsageError(
                f"{self._place}: is there and was not written by `{self.kind.maker}`{earlier}; it stays as it is, "
                f"{self._remedies('move it')}"
            )

    def reading(self, cases: Iterable[Case]) -> Output:
        """The same output of a command that reads these cases' files too."""
        files = (file for case in cases for file in (*case.images.values(), case.mask) if file)
        return replace(self, inputs=(*self.inputs, *files))

    @property
    def _place(self) -> str:
        """The option as typed, and the file where that does not say it."""
        return self.given if self.given.endswith(str(self.path)) else f"{self.given}: {self.path}"

    def _remedies(self, *more: str) -> str:
        """What to do: another name where the file was named, another folder where only its folder was."""
        option = self.given.partition(" ")[0]
        found = self.instead
        if found is None:
            of_folder = f"give another {option}" if option.startswith("-") else ""
            found = "give another name" if self.given.endswith(str(self.path)) else of_folder
        return " or ".join(filter(None, (found, *more))) or "keep it elsewhere"

    def write(self, content: bytes | str) -> Path:
        """Write the file whole or not at all; its path.

        Raises:
            UsageError: As `require_free`, of what came while the command worked.
        """
        self.require_free()
        write_whole(self.path, content)
        return self.path


def page_of(title: str) -> str:
    """What an HTML page of ours begins with (`report.page.page`).

    Args:
        title: Its beginning, as plain text.
    """
    # Jinja2 writes a single quote as &#39;, html.escape (and pages of earlier versions) as &#x27;.
    escaped = re.escape(html.escape(title)).replace(re.escape("&#x27;"), "&#(?:x27|39);")
    return f"<!DOCTYPE html>\n.{{0,1000}}<title>{escaped}"


def figure_of(maker: str, ending: str) -> Kind:
    """What a figure of ours begins with (`report.figures.as_svg`, `as_png`).

    Args:
        maker: The command.
        ending: ".svg" or ".png".
    """
    marks = {".svg": ".{0,1500}<dc:title>segan_pl</dc:title>", ".png": "\x89PNG.{0,200}Software\0segan_pl"}
    return Kind(maker, marks[ending], unmarked=True)


def require_free(outputs: Iterable[Output]) -> None:
    """Refuse to replace what must stay, and to write two outputs to one place.

    Raises:
        UsageError: As `Output.require_free`, or two of them are the same file.
    """
    seen: dict[Path, str] = {}
    for output in outputs:
        place = output.path.resolve()
        if place in seen:
            raise UsageError(f"{seen[place]} and {output.given} are one file; give each its own")
        seen[place] = output.given
        output.require_free()
