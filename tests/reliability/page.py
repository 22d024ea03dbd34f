"""docs/reliability.md, from the table."""

from __future__ import annotations

from types import ModuleType

from tests.reliability.faults import FIT, PREPARE, Fault
from tests.reliability.table import ELSEWHERE, FAULTS
from tests.reliability.topics import TOPICS

HEAD = """# What happens when something is wrong

Each row is a test: the fault is planted in a copy of a generated cohort (BraTS 2019's form, 5 cases of 32 x 32 x 8
voxels), the command runs, and its exit code and words are compared. This page is written by

    .venv/bin/python -m tests.reliability > docs/reliability.md

and `.venv/bin/python -m pytest tests/reliability` compares it with the tests. "refused" is exit code 1 (2 where
something was typed wrongly), and nothing was lost before; "reported" is exit code 0 with a note. The words are a part
of what the command prints.

| no. | fault | command | exit | says |
|---|---|---|---|---|
"""
MIDDLE = """
Faults that need more than a file and a command:

| no. | fault | test |
|---|---|---|
"""


def page() -> str:
    """The whole of it."""
    rows = [row(fault) for fault in sorted(FAULTS, key=lambda fault: fault.number)]
    others = [
        f"| {number} | {what} | `{test.replace('::', '::test_')}` |\n" for number, what, test in sorted(ELSEWHERE)
    ]
    return HEAD + "".join(rows) + MIDDLE + "".join(others) + "".join(section(topic) for topic in TOPICS)


def section(topic: ModuleType) -> str:
    """The tables of one topic; nothing where it has no row."""
    text = ""
    if topic.FAULTS:
        text += "\n| fault | command | exit | says |\n|---|---|---|---|\n"
        text += "".join(row(fault).replace(f"| {fault.number} ", "", 1) for fault in topic.FAULTS)
    if topic.ELSEWHERE:
        text += "\n| fault | test |\n|---|---|\n"
        text += "".join(f"| {what} | `{test.replace('::', '::test_')}` |\n" for what, test in topic.ELSEWHERE)
    # what was measured by other means than a test
    text += getattr(topic, "NOTE", "")
    return f"\n## {topic.TITLE}\n{text}" if text else ""


def row(fault: Fault) -> str:
    """One line of the table."""
    return f"| {fault.number} | {fault.what} | `{shown(fault.command)}` | {fault.code} | {escaped(fault.says)} |\n"


def shown(command: str) -> str:
    """A command without what only makes the test small."""
    for long, short in ((FIT, "fit"), (PREPARE, "prepare")):
        command = command.replace(long, short)
    small = (" --root={root}", " --workers=1", " --data.cache_dir={work}/cache", " --data.preparation.crop=null")
    for part in (*small, " --data.stratify_by=[]", "--data.cache_dir={work}/cache "):
        command = command.replace(part, "")
    return command.replace("{work}/", "")


def escaped(text: str) -> str:
    """Safe inside a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
