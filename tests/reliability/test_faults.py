from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from segan_pl.__main__ import main
from segan_pl.data.synthetic.cohort import make_cohort
from tests.cohort import QUIET
from tests.reliability.faults import Fault
from tests.reliability.page import page
from tests.reliability.table import ELSEWHERE, FAULTS
from tests.reliability.topics import TOPICS

pytest_plugins = ["tests.cohort_fixtures"]
pytestmark = [
    *QUIET,
]

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort before anything is planted."""
    root = tmp_path_factory.mktemp("sound")
    make_cohort(root, cases=5, shape=(8, 32, 32))
    return root


BY_TOPIC = [fault for topic in TOPICS for fault in topic.FAULTS]


@pytest.mark.parametrize(
    "fault", [*FAULTS, *BY_TOPIC], ids=lambda fault: f"{fault.number}-{fault.what.replace(' ', '_')}"
)
@pytest.mark.usefixtures("isolated")
def test_the_command_ends_as_the_table_says(
    fault: Fault, sound: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = Path(shutil.copytree(sound, tmp_path / "cohort"))
    fault.plant(root)
    *before, last = fault.command.format(root=root, work=tmp_path).split(" && ")
    for command in before:
        assert ended(command) == 0
    capfd.readouterr()
    caplog.clear()
    code = ended(last)
    output = capfd.readouterr()
    said = " ".join((output.out + output.err + caplog.text).split())
    assert code == fault.code, said
    assert " ".join(fault.says.split()) in said
    assert "Traceback" not in said


def ended(command: str) -> int:
    """The exit code of `segan_pl COMMAND` in this process."""
    try:
        return main(command.split())
    except SystemExit as end:
        return int(end.code or 0)


def test_all_22_kinds_have_a_row() -> None:
    numbers = {fault.number for fault in FAULTS} | {number for number, _, _ in ELSEWHERE}
    assert numbers == set(range(1, 23))


NAMED = [test for _, _, test in ELSEWHERE] + [test for topic in TOPICS for _, test in topic.ELSEWHERE]


@pytest.mark.parametrize("test", NAMED)
def test_the_tests_that_the_page_names_exist(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    assert f"test_{name}" in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_page_is_what_the_table_makes_of_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
