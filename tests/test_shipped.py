from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from segan_pl import shipped
from segan_pl.errors import UsageError
from segan_pl.shipped import (
    config_paths,
    find_config,
    refuse_two_models,
    require_system_first,
    resolve_config_arguments,
    shipped_configs,
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with two shipped files in a checkout beside it; the working directory is elsewhere."""
    for name in ("systems/segan_cat", "data/lgg"):
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("model: {}\n" if name.startswith("systems") else "data: {}\n")
    (tmp_path / "configs/demo.yaml").write_text("trainer: {}\n")
    (tmp_path / "segan_pl").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "segan_pl")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "segan_pl"


def test_a_shipped_file_is_found_by_name_with_or_without_suffix(package: Path) -> None:
    assert find_config("segan_cat") == package.parent / "configs/systems/segan_cat.yaml"
    assert find_config("lgg.yaml") == package.parent / "configs/data/lgg.yaml"
    assert find_config("demo") == package.parent / "configs/demo.yaml"


def test_configs_inside_an_installed_package_win_over_a_folder_beside_it(package: Path) -> None:
    inside = package / "configs/systems/segan_cat.yaml"
    inside.parent.mkdir(parents=True)
    inside.write_text("model: {}\n")
    assert find_config("segan_cat") == inside


def test_an_existing_path_wins_over_a_shipped_name(package: Path) -> None:
    Path("segan_cat").write_text("data: {}\n")
    assert find_config("segan_cat") == Path("segan_cat")


def test_a_folder_of_that_name_does_not_hide_the_shipped_file(package: Path) -> None:
    Path("lgg").mkdir()
    assert find_config("lgg").name == "lgg.yaml"


def test_an_unknown_name_is_refused_with_the_nearest_and_the_list(package: Path) -> None:
    with pytest.raises(UsageError, match=r"segan_cta: no such file.*did you mean 'segan_cat'\? known: demo, lgg, seg"):
        find_config("segan_cta")


def test_every_form_of_the_flag_is_rewritten_and_nothing_else(package: Path) -> None:
    argv = ["fit", "--config", "segan_cat", "-c", "lgg", "--config=demo", "--run.root=lgg", "lgg"]
    system, data, demo = (str(find_config(name)) for name in ("segan_cat", "lgg", "demo"))
    resolved = resolve_config_arguments(argv)
    assert resolved == ["fit", "--config", system, "-c", data, "--config", demo, "--run.root=lgg", "lgg"]
    assert config_paths(resolved) == [Path(system), Path(data), Path(demo)]


def test_a_flag_without_a_value_is_left_to_the_parser(package: Path) -> None:
    assert resolve_config_arguments(["fit", "--config"]) == ["fit", "--config"]


def test_one_model_among_several_files_is_allowed_and_two_are_refused(package: Path) -> None:
    system, data = find_config("segan_cat"), find_config("lgg")
    refuse_two_models([system, data])
    with pytest.raises(UsageError, match=r"more than one --config defines a model: .*segan_cat\.yaml, .*segan_cat"):
        refuse_two_models([system, data, system])


@pytest.mark.parametrize(("text", "found"), [("- a\n", "found list"), ("a: [\n", "not readable as YAML")])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"bad\.yaml: .*{found}"):
        refuse_two_models([path])


def test_an_empty_file_defines_no_model(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert refuse_two_models([path, path]) is None  # type: ignore[func-returns-value]


def test_names_of_shipped_files_are_unique() -> None:
    stems = Counter(path.stem for path in shipped.shipped_folder("configs").rglob("*.yaml"))
    assert stems, "no configuration is shipped"
    assert max(stems.values()) == 1
    assert set(stems) == set(shipped_configs())


def test_a_data_file_before_the_system_file_is_refused_because_its_preparation_would_be_replaced() -> None:
    require_system_first([find_config("segan_cat"), find_config("lgg")])
    with pytest.raises(UsageError, match=r"lgg stands before the system segan_cat, .* preparation; give"):
        require_system_first([find_config("lgg"), find_config("segan_cat")])
    require_system_first([find_config("lgg"), find_config("segan_cat_small")])
