"""The page as a reader gets it: whole, safe, accessible, and true to the files."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from segan_pl.__main__ import main
from segan_pl.data.layouts.tissues import TISSUES
from segan_pl.report.charts import COLOURS
from segan_pl.report.page import page as filled
from segan_pl.report.published import published, published_for
from tests.report.run_folders import CONFIG, make_evaluation, make_run, score, write_rows

VOID = {"meta", "img", "input", "br", "path", "use", "rect", "circle", "link"}


class Page(HTMLParser):
    """Elements with their attributes, text by element, and a check that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(tmp_path: Path, *runs: str, arguments: tuple[str, ...] = ()) -> Page:
    assert main(["report", *runs, "--output", str(tmp_path / "page" / "index.html"), *arguments]) == 0
    return Page((tmp_path / "page" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "a")


def test_nothing_is_loaded_from_elsewhere(run, tmp_path):
    page = made(tmp_path, str(run))
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), value
    text = (tmp_path / "page" / "index.html").read_text()
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", text)
    assert "default-src 'none'" in text


def test_every_figure_table_and_field_has_words(run, tmp_path):
    page = made(tmp_path, str(run))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    svgs = page.all("svg")
    assert svgs
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in svgs)
    assert len(page.all("caption")) == len(page.all("table")) > 1
    labelled = {attributes["for"] for attributes in page.all("label")}
    assert {attributes["id"] for attributes in page.all("input")} == labelled
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_lines_stand_out_from_what_lies_behind_them(scheme):
    blocks = re.findall(r":root \{(.*?)\}", filled("style.css"), re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[("light", "dark", "print").index(scheme)]))
    for name in ("ink", "quiet", "link", "bad", *(f"c{number}" for number in range(len(COLOURS)))):
        assert contrast(colours[name], colours["back"]) >= 4.5, name
    for name in ("ink", "quiet", "link", "bad"):  # no chart lies on a band
        assert contrast(colours[name], colours["band"]) >= 4.5, name
    if scheme != "dark":
        assert tuple(colours[f"c{number}"] for number in range(len(COLOURS))) == COLOURS


def test_means_intervals_and_counts_are_those_of_the_file(tmp_path):
    page = made(tmp_path, str(make_run(tmp_path / "runs" / "a", (0.9, 0.7, 0.5, 0.5, 0.5, 0.3, 0.1))))
    assert "0.500" in page.text  # the mean
    table = (tmp_path / "page" / "index.md").read_text()
    row = next(line for line in table.splitlines() if "| dice |" in line).split(" | ")
    assert row[3] == "0.500"
    low, high = (float(word) for word in row[4].split(" to "))
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert row[5:] == ["0.500", "0.400 to 0.600", "7", "0", "1", "higher |"]
    assert "These cases chose the checkpoint" in page.text


def test_what_is_not_available_is_left_out_and_counted(tmp_path):
    page_of = make_run(tmp_path / "runs" / "a", (0.9, "", 0.7))
    made(tmp_path, str(page_of))
    row = next(line for line in (tmp_path / "page" / "index.md").read_text().splitlines() if "| dice |" in line)
    assert row.endswith("| 2 | 1 | 1 | higher |")


def test_known_experiments_are_shown_next_to_the_published_numbers(run, tmp_path):
    page = made(tmp_path, str(run))
    assert "0.859" in page.text
    assert "BraTS2015, table I" in page.text
    other = make_run(tmp_path / "runs" / "b", config=CONFIG | {"run": {"experiment": "mine"}})
    assert "Next to the published" not in made(tmp_path, str(other)).text


@pytest.mark.parametrize(
    ("experiment", "model"),
    [
        *(("segan", "segan"), ("segan_small", "segan"), ("segan_dice", "segan_dice"), ("segan_cat", "segan_cat")),
        *(("segan_dice_small", "segan_dice"), ("segan_cat_small", "segan_cat"), ("segan_isic", None)),
        *(("segan_reciprocal_x", None), ("segan_cat2", None), ("mine", None)),
    ],
)
def test_an_experiment_is_shown_next_to_its_own_model_only(experiment, model):
    rows = published_for({"run": {"experiment": experiment}}, ["wt"])
    assert {row["model"] for row in rows} == ({model} if model else set())


@pytest.mark.parametrize("shown", [["flair", "t1", "t1ce", "t2"], ["t1", "t1ce", "t2", "flair"], None])
def test_the_order_of_modalities_does_not_matter(shown):
    config = {"run": {"experiment": "segan_cat"}, "data": {"modalities": shown}}
    rows = published_for(config, ["wt", "tc"])
    assert {row["table"] for row in rows} == {"I"}
    assert len(rows) == len(published_for({"run": {"experiment": "segan_cat"}}, ["wt", "tc"])) > 0


def test_a_run_on_one_modality_is_shown_next_to_table_ii():
    config = {"run": {"experiment": "segan_cat"}, "data": {"modalities": ["flair"]}}
    rows = published_for(config, ["wt"])
    assert {(row["table"], row["trained_on"], row["tested_on"]) for row in rows} == {("II", "flair", "flair")}


def test_the_tissues_of_a_healthy_brain_are_shown_next_to_gt_gans_tables_of_the_same_data_set():
    rows = published_for({"data": {"native_labels": "mrbrains13"}}, ["csf", "gm"])
    assert {(row["system"], row["dataset"], row["region"]) for row in rows} == {
        ("gt_gan", "MRBrainS13", "CSF"),
        ("gt_gan", "MRBrainS13", "GM"),
    }


@pytest.mark.parametrize("layout", [layout.NAME for layout in TISSUES])
def test_the_labels_of_each_layout_of_tissues_are_those_of_their_published_data_set_or_of_none(layout):
    dataset = {"iseg": "iSEG2017", "mrbrains18": None, "ibsr18": None}.get(layout, "MRBrainS13")
    convention = {"mrbrains13_testing": "mrbrains13"}.get(layout, layout)
    found = [
        published_for({"data": {"native_labels": "auto", "layout": layout}}, ["wm"]),
        published_for({"data": {"native_labels": "auto", "layout": "auto"}}, ["wm"], convention),
        published_for({"data": {"native_labels": convention}}, ["wm"]),
    ]
    assert found[0] == found[1] == found[2]
    assert {row["dataset"] for row in found[0]} == ({dataset} if dataset else set())


def test_labels_that_a_user_states_are_of_no_published_data_set():
    assert published_for({"data": {"native_labels": {"csf": 1}}}, ["csf"]) == []


def test_scores_of_the_central_part_alone_are_said_to_be(tmp_path):
    rows = [score(f"c{n}", 0.5, status="ok") for n in range(3)]
    folder = make_evaluation(tmp_path / "evaluation", rows, crop=[128, 160, 160])
    assert main(["report", str(folder)]) == 0
    text = (folder / "report" / "index.md").read_text(encoding="utf-8")
    assert "Only the central 128 x 160 x 160 voxels (z, y, x in LPS) of each case are scored." in text


def test_every_id_is_that_of_one_element_and_every_reference_has_its_element(run, tmp_path):
    page = made(tmp_path, str(run), f"b={make_run(tmp_path / 'runs' / 'b', (0.3, 0.2))}")
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(page.all("svg")) > 2
    assert len(ids) == len(set(ids)) > 5
    text = (tmp_path / "page" / "index.html").read_text()
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)


def test_what_scrolls_can_be_reached_by_the_keyboard_and_has_a_name(run, tmp_path):
    page = made(tmp_path, str(run))
    scrolling = [attributes for attributes in page.all("div") if attributes.get("class") == "scroll"]
    assert len(scrolling) == len(page.all("table"))
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in scrolling)
    assert ".scroll:focus-visible" in filled("style.css")


def test_dollar_signs_in_names_are_no_mathematics(run, tmp_path):
    config = CONFIG | {"run": {"experiment": "a$\\foo$b"}}
    other = make_run(tmp_path / "runs" / "b", (0.3, 0.2), config=config)
    made(tmp_path, f"$x$={run}", str(other))
    drawn = (tmp_path / "page" / "figures" / "box_dice.svg").read_text()
    assert ">a$\\foo$b b<" in drawn
    assert ">$x$<" in drawn


def test_published_numbers_are_facts_with_their_places():
    rows = published()
    assert len(rows) == 318
    assert all(row["system"] and row["table"] and float(row["value"]) >= 0 for row in rows)


def test_two_runs_are_told_apart_by_what_differs_in_their_settings(run, tmp_path):
    other = make_run(tmp_path / "runs" / "b", (0.8, 0.6, 0.2), config=CONFIG | {"model": {"averaging": None}})
    page = made(tmp_path, f"first={run}", f"second={other}")
    assert "Settings in which the runs differ" in page.text
    assert "model.averaging" in page.text
    assert page.text.split("model.averaging")[1].split()[:2] == ["0.9", "None"]
    assert "run.directory" not in page.text.split("Settings in which")[1].split("first")[0]


def test_failures_and_empty_masks_are_listed(tmp_path):
    rows = [
        score("a", 0.5, status="ok"),
        score("b", 0, status="missing", empty="prediction"),
        score("c", "", status="refused: another grid"),
    ]
    page = made(tmp_path, str(make_evaluation(tmp_path / "evaluation", rows)))
    failures = page.text.split("Failures and empty masks")[1]
    assert "missing" in failures
    assert "refused: another grid" in failures
    assert "empty: prediction" in failures
    assert "policy brats2018" in page.text


def test_names_that_look_like_html_stay_text(tmp_path):
    rows = [score("<script>alert(1)</script>", 0.5, status="ok"), score("b & c", 0.4, status="ok")]
    page = made(tmp_path, f"<b>x={make_evaluation(tmp_path / 'evaluation', rows)}")
    assert "<script>alert(1)</script>" in page.text
    assert len(page.all("script")) == 1
    assert not page.all("b")


def test_figures_are_files_too_and_the_same_files_give_the_same_page(run, tmp_path):
    made(tmp_path, str(run))
    first = (tmp_path / "page" / "index.html").read_bytes()
    names = {path.name for path in (tmp_path / "page" / "figures").iterdir()}
    assert "box_dice.svg" in names
    assert any(name.startswith("curve_") for name in names)
    made(tmp_path, str(run))
    assert (tmp_path / "page" / "index.html").read_bytes() == first


def test_a_run_that_has_only_begun_is_shown_by_its_curves(tmp_path, run):
    for file in (run / "scores").iterdir():
        file.unlink()
    page = made(tmp_path, str(run))
    assert "Learning" in page.text
    assert "Scores" not in page.text


def test_the_page_lies_in_the_runs_folder_by_default(run):
    assert main(["report", str(run)]) == 0
    assert (run / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no run given"),
        (("/nowhere",), "no run /nowhere"),
        (("{empty}",), "neither metrics.csv nor scores"),
        (("a={run}", "a={run}"), "two runs are called 'a'"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(run, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    filled = [argument.format(run=run, empty=tmp_path / "empty") for argument in arguments]
    assert main(["report", *filled]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_page_takes_a_large_cohort(tmp_path):
    rng = np.random.default_rng(0)
    rows = [score(f"c{i}", round(float(d), 4), status="ok") for i, d in enumerate(rng.beta(8, 2, 400))]
    page = made(tmp_path, str(make_evaluation(tmp_path / "evaluation", rows)))
    with (tmp_path / "evaluation" / "metrics_per_case.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 400
    assert "400 rows" in page.text


def test_a_metric_without_a_value_has_a_row_and_no_figure_and_a_column_of_any_name_a_file_in_the_folder(tmp_path):
    rows = [score(name, 0.5, theirs="", **{"../a/b": 1.0}) for name in ("a", "b")]
    folder = make_evaluation(tmp_path, rows, metrics={"theirs": {"unit": "mm"}})
    made(tmp_path, str(folder))
    assert any("| theirs | n/a |" in line for line in (tmp_path / "page" / "index.md").read_text().splitlines())
    boxes = sorted(file.name for file in (tmp_path / "page" / "figures").glob("box_*"))
    assert boxes == ["box_.._a_b.svg", "box_dice.svg"]


def test_an_evaluation_within_a_run_is_shown_with_the_runs_curves_and_subsets(tmp_path, run):
    (run / "scores" / "metrics.json").write_text('{"theirs": {"unit": "mm"}}')
    epochs = [{"epoch": e, "seconds": 60, "val/dice_wt": 0.4, "val/theirs_wt": 3.0 - e} for e in range(2)]
    write_rows(run / "metrics.csv", epochs)
    write_rows(run / "scores" / "val_epoch_0001_subsets.csv", [score("a", 0.25, subset="t1", modalities=1)])
    (run / "evaluated").mkdir()
    folder = make_evaluation(run / "evaluated", [score("case_0", 0.5)])
    page = made(tmp_path, str(folder))
    assert "theirs on the validation volumes by epoch" in page.text
    assert "subsets of the modalities from val_epoch_0001_subsets.csv" in page.text


def test_a_metric_whose_name_begins_with_dice_is_not_drawn_among_dice(tmp_path, run):
    (run / "scores" / "metrics.json").write_text('{"dice_edge": {"unit": "mm"}}')
    epochs = [{"epoch": e, "seconds": 60, "val/dice_wt": 0.4, "val/dice_edge_wt": 30.0} for e in range(2)]
    write_rows(run / "metrics.csv", epochs)
    text = made(tmp_path, str(run)).text
    assert "Dice on the validation volumes by epoch: WT " in text
    assert "dice_edge on the validation volumes by epoch: WT" in text


def test_verdicts_of_a_gan_have_a_figure_with_their_line_and_its_last_picture_is_on_the_page(tmp_path):
    weights = {"unlabelled_weight": 1.0, "fake_weight": 2.0}
    run = make_run(tmp_path / "gan", config={**CONFIG, "model": {"objective": {"init_args": weights}}})
    epochs = [
        {"epoch": e, "train/segmentor_real": 0.5, "train/segmentor_fake": 0.2, "train/segmentor_fake_loss": 0.9}
        for e in range(2)
    ]
    write_rows(run / "metrics.csv", epochs)
    (run / "previews").mkdir()
    for epoch, content in ((0, b"old"), (3, b"new")):
        (run / "previews" / f"epoch_{epoch:04d}_generated.png").write_bytes(content)
    page = made(tmp_path, str(run))
    assert "1 is real, by epoch: real patches, generated patches; dashed where both" in page.text
    assert "gan 0.333)" in page.text
    # the losses' figure is of the others alone
    assert "training losses by epoch: segmentor_fake_loss" in page.text
    pictures = [about["src"] for tag, about in page.elements if tag == "img"]
    assert pictures[-1] == "data:image/png;base64,bmV3"
    assert "epoch_0003_generated.png" in page.text
    assert (tmp_path / "page" / "figures" / "curve_verdicts.svg").is_file()


def test_runs_without_a_generator_have_neither(tmp_path, run):
    page = made(tmp_path, str(run))
    assert "1 is real" not in page.text
    assert "generated" not in page.text
