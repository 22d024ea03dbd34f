from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from segan_pl.errors import UsageError
from segan_pl.experiments import config_layers, shipped
from segan_pl.experiments.config_layers import refuse_two_models, replaced_settings, require_system_first
from segan_pl.experiments.shipped import config_paths, find_config, resolve_config_arguments, shipped_configs
from segan_pl.report.published import published


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


def test_an_unknown_name_is_refused_with_the_nearest_or_the_list(package: Path) -> None:
    with pytest.raises(UsageError, match=r"segan_cta: no such file.*did you mean 'segan_cat'\?$"):
        find_config("segan_cta")
    with pytest.raises(UsageError, match=r"zzz: no such file.*; known: demo, lgg, seg"):
        find_config("zzz")


def test_every_form_of_the_flag_is_rewritten_and_nothing_else(package: Path) -> None:
    argv = ["fit", "--config", "segan_cat", "-c", "lgg", "--config=demo", "--run.root=lgg", "lgg"]
    system, data, demo = (str(find_config(name)) for name in ("segan_cat", "lgg", "demo"))
    resolved = resolve_config_arguments(argv)
    assert resolved == ["fit", "--config", system, "-c", data, "--config", demo, "--run.root=lgg", "lgg"]
    typed_first = ["fit", "--run.root=lgg", "--config", "segan_cat", "--x", "lgg", "-c", "lgg", "--", "-c", "demo"]
    files_first = ["fit", "--config", system, "-c", data, "--run.root=lgg", "--x", "lgg", "--", "-c", demo]
    assert resolve_config_arguments(typed_first) == files_first
    assert config_paths(resolved) == [Path(system), Path(data), Path(demo)]


def test_a_flag_without_a_value_is_left_to_the_parser(package: Path) -> None:
    assert resolve_config_arguments(["fit", "--config"]) == ["fit", "--config"]


def test_one_model_among_several_files_is_allowed_and_two_are_refused(package: Path) -> None:
    system, data = find_config("segan_cat"), find_config("lgg")
    refuse_two_models([system, data])
    with pytest.raises(UsageError, match=r"more than one --config defines a model: .*segan_cat\.yaml, .*segan_cat"):
        refuse_two_models([system, data, system])


def test_an_objective_goes_over_one_system_and_comes_after_it() -> None:
    system, other, objective, second = (find_config(name) for name in ("unet3d", "unet2d", "cps", "bcp"))
    refuse_two_models([system, objective])
    require_system_first([system, objective])
    for paths, said in (
        ([system, other, objective], "more than one --config defines a model"),
        ([system, objective, second], "more than one --config states an objective: .*cps.yaml, .*bcp.yaml; keep one"),
        ([objective], "--config cps is an objective; give a system before it, e.g. -c unet3d -c cps"),
    ):
        with pytest.raises(UsageError, match=said):
            refuse_two_models(paths)
    with pytest.raises(UsageError, match="--config cps is an objective; give the system unet3d before it"):
        require_system_first([objective, system])


def test_an_objective_keeps_the_supervised_loss_of_its_system_unless_it_states_one(tmp_path: Path) -> None:
    (flag,), notes = resolved("brats2019_few_labels", "mean_teacher")
    name, _, kept = flag.partition("=")
    assert name == "--model.objective.init_args.supervised"
    assert yaml.safe_load(kept) == yaml.safe_load(find_config("brats2019_few_labels").read_text())["model"]["objective"]
    assert not notes
    own = tmp_path / "own.yaml"
    content = yaml.safe_load(find_config("mean_teacher").read_text())
    content["model"]["objective"]["init_args"]["supervised"] = {"class_path": config_layers.SUPERVISED}
    own.write_text(yaml.safe_dump(content))
    assert resolved("unet3d", str(own)) == ([], [])
    assert resolved("segan_cat", "mean_teacher") == ([], [])  # whose loss is no supervised one


def test_an_objective_with_a_critic_keeps_segmentor_and_optimiser_of_its_system() -> None:
    model = yaml.safe_load(find_config("unet2d").read_text())["model"]
    flags, notes = resolved("unet2d", "critic")
    kept = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    assert {name: yaml.safe_load(value) for name, value in kept.items()} == {
        "model.networks.segmentor": model["networks"]["segmentor"],
        "model.optimizers.default": model["optimizers"]["default"],
        "model.objective.init_args.supervised": model["objective"],
    }
    assert not notes
    # Of a system that has a critic, the file's own takes its place.
    flags, _ = resolved("segan_cat", "critic")
    assert [flag.partition("=")[0] for flag in flags] == ["--model.networks.segmentor", "--model.optimizers.default"]


def test_every_objective_file_holds_its_objective_and_its_name_alone() -> None:
    files = sorted((shipped.shipped_folder("configs") / "objectives").glob("*.yaml"))
    assert files
    for path in files:
        content = yaml.safe_load(path.read_text())
        assert content.keys() == {"model", "run"}
        assert content["model"].keys() in ({"objective"}, {"objective", "networks", "optimizers"})
        assert "segmentor" not in content["model"].get("networks", {})
        assert content["run"] == {"experiment": path.stem}


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


def test_a_file_without_a_setting_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    with pytest.raises(UsageError, match=r"empty\.yaml: holds no setting; leave it out"):
        resolve_config_arguments(["fit", "-c", str(path)])


def test_names_of_shipped_files_are_unique() -> None:
    files = shipped.shipped_folder("configs").rglob("*.yaml")
    # neither plans, which may be called after the system whose tables they are, nor what a job asks for are
    # configurations
    stems = Counter(path.stem for path in files if path.parent.name not in ("experiments", "cluster"))
    assert stems, "no configuration is shipped"
    assert max(stems.values()) == 1
    assert set(stems) == set(shipped_configs())


def test_a_data_file_before_the_system_file_is_refused_because_its_settings_would_be_replaced() -> None:
    require_system_first([find_config("albunet3d"), find_config("lgg")])
    with pytest.raises(
        UsageError, match=r"lgg comes before the system albunet3d, .*data\.labels, data\.modalities; give"
    ):
        require_system_first([find_config("lgg"), find_config("albunet3d")])
    require_system_first([find_config("lgg"), find_config("segan_cat_small")])


def test_a_debug_file_before_the_system_file_is_refused_wherever_it_stands() -> None:
    names = ("debug_fast", "brats", "segan_cat")
    with pytest.raises(UsageError, match=r"debug_fast comes before the system segan_cat, .*trainer\.max_epochs; give"):
        require_system_first([find_config(name) for name in names])


def resolved(*names: str) -> tuple[list[str], list[str]]:
    """The flags that were added to a line of these configurations, and the notes on it."""
    arguments = resolve_config_arguments(["fit", *(part for name in names for part in ("-c", name))])
    return [one for one in arguments if one.startswith("--")], replaced_settings(config_paths(arguments))


def test_a_data_file_has_neither_preparation_nor_patches() -> None:
    for path in (shipped.shipped_folder("configs") / "data").glob("*.yaml"):
        data = yaml.safe_load(path.read_text())["data"]
        assert set(data) <= {"layout", "modalities", "labels", "missing", "stratify_by"}, path
        assert data.get("labels", "binary") in ("binary", "labels")  # what the masks are: a tumour, or tissues


@pytest.mark.parametrize("system", ["segan_cat", "albunet3d", "albunet2d_paper", "unet3d", "reciprocal", "segan_isic"])
def test_the_brats_file_leaves_every_system_as_it_is(system: str) -> None:
    own = yaml.safe_load(find_config(system).read_text())["data"].get("modalities")
    same = own in (None, ["t1", "t1ce", "t2", "flair"])
    assert resolved(system, "brats") == ([] if same else [f"--data.modalities=[{','.join(own)}]"], [])


def test_a_system_goes_without_what_the_data_lack_in_its_own_order_with_a_note() -> None:
    flags, notes = resolved("albunet2d", "lgg")
    assert flags == ["--data.modalities=[flair,t1ce]"]
    assert notes == [
        "note: lgg replaces data.labels of albunet2d: labels -> binary",
        "note: lgg replaces data.modalities of albunet2d: [flair, t1ce, t2] -> [flair, t1ce]",
    ]
    assert resolved("segan_cat_small", "lgg") == ([], [])


def test_a_data_set_without_any_modality_of_the_system_is_refused(tmp_path: Path) -> None:
    system, data = tmp_path / "one.yaml", tmp_path / "other.yaml"
    system.write_text("{model: {}, data: {modalities: [t2]}}")
    data.write_text("data: {layout: lgg, modalities: [t1]}")
    with pytest.raises(UsageError, match=r"--config other: has t1; the system asks for t2"):
        resolved(str(system), str(data))
    data.write_text("data: {modalities: [t1]}")  # somebody's choice, no data set
    assert resolved(str(system), str(data)) == ([], ["note: other replaces data.modalities of one: [t2] -> [t1]"])


def test_every_replaced_setting_of_the_preparation_is_said() -> None:
    assert resolved("unet2d", "whole_preparation") == (
        [],
        [
            "note: whole_preparation replaces data.preparation.crop of unet2d: nonzero -> null",
            "note: whole_preparation replaces data.preparation.scaling of unet2d: zscore -> percentile",
        ],
    )
    assert resolved("segan_cat", "segan_cat_preparation") == ([], [])


@pytest.mark.parametrize("system", ["segan_cat_small", "segan_dice_small", "segan_small", "segmentor_small"])
def test_the_small_systems_prepare_tcga_lgg_as_its_data_file_did(system: str) -> None:
    data = yaml.safe_load(find_config(system).read_text())["data"]
    assert data["preparation"] == {"crop": None, "scaling": "percentile", "percentiles": [2.0, 98.0]}


@pytest.mark.parametrize("dimensions", ["2d", "3d"])
def test_albunet_reaches_for_the_number_and_its_paper_file_differs_by_the_background_alone(dimensions: str) -> None:
    ours, paper = (yaml.safe_load(find_config(f"albunet{dimensions}{name}").read_text()) for name in ("", "_paper"))
    assert ours["model"]["objective"]["init_args"].pop("dice_background") is True
    assert paper["model"]["objective"]["init_args"].pop("dice_background") is False
    assert paper["run"].pop("experiment") == f"albunet{dimensions}_paper"
    assert ours["run"].pop("experiment") == f"albunet{dimensions}"
    assert ours == paper


SECTIONS = {  # of the papers; a sub-section's letter or number where there are sub-sections
    "SegAN-CAT": {"III", "III-A", "III-B", "III-C", "IV", "V"},
    "AlbuNet": {"III", *(f"III-{letter}" for letter in "ABCDE")},
    "reciprocal": {"3.1", "3.2", "3.3", "3.4", "4.1", "4.2"},
}


def test_every_section_that_a_shipped_file_names_is_one_of_its_paper() -> None:
    for path in shipped_configs().values():
        paper = next((name for name in ("albunet", "reciprocal") if path.stem.startswith(name)), "SegAN-CAT")
        known = SECTIONS["AlbuNet" if paper == "albunet" else paper]
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"sections? ([IVX0-9][\w.-]*\w|[IVX])(?: and ([IVX]+))?", text)
        assert {one for pair in named for one in pair if one} <= known, path


def test_no_shipped_file_gives_the_papers_text_for_a_width() -> None:
    for path in shipped_configs().values():
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"width: \d.*#.*(paper, section III-A|ours: paper \d)", line), path.stem


def test_ucl_tig_was_trained_on_all_four_modalities() -> None:
    rows = [row for row in published() if row["model"] == "ucl_tig" and row["dataset"].startswith("BraTS2018")]
    assert rows
    assert {row["trained_on"] for row in rows} == {"t1+t1ce+t2+flair"}
