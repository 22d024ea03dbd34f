from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from rich.console import Console

from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.callbacks.pace import Pace, run_left
from segan_pl.training.callbacks.progress import Progress
from tests.training.callbacks.toy import QUIET, Toy, loader, trainer

pytestmark = QUIET


def recorded(*, terminal: bool) -> tuple[io.StringIO, Console]:
    text = io.StringIO()
    return text, Console(file=text, force_terminal=terminal, width=200, soft_wrap=True, highlight=False)


def test_without_a_terminal_an_epoch_ends_with_one_line_that_says_it_all(tmp_path: Path) -> None:
    text, console = recorded(terminal=False)
    trainer(tmp_path, Progress(console=console), epochs=2).fit(Toy([0.3, 0.2]), loader(), loader(2))
    cost, first, second = text.getvalue().splitlines()
    assert cost == "cost: 2 epochs of 4 batches; the time left follows the first epoch"
    assert re.fullmatch(r"epoch 0 of 0-1: loss 0\.\d{4}; dice wt 0\.3000; best 0\.3000 at 0; \d+ s left", first)
    assert re.fullmatch(r"epoch 1 of 0-1: loss 0\.\d{4}; dice wt 0\.2000; best 0\.3000 at 0; 0 s left", second)


@pytest.mark.parametrize(
    ("epochs", "left"),
    [
        (100_000, r"at least \d+ s left"),
        (20, r"at least \d+ s left"),
        (2, "0 s left"),  # patience cannot end it sooner
    ],
)
def test_a_run_that_patience_may_end_promises_its_earliest_end_only(tmp_path: Path, epochs: int, left: str) -> None:
    text, console = recorded(terminal=False)
    stop = VolumeDiceStopping(patience=3)
    progress = Progress(console=console, plain_every=0.0)
    trainer(tmp_path, stop, progress, epochs=epochs, max_time=None).fit(Toy([0.3, 0.2, 0.1, 0.1]), loader(), loader(2))
    lines = text.getvalue().splitlines()
    ends = [line for line in lines if re.match(r"epoch \d+ of 0-\d+: ", line)]
    assert re.search(rf"at 0; {left}$", ends[1])
    assert not any("the best so far" in line or "no improvement" in line for line in lines)  # the epoch's line says it
    within = [line for line in lines if "run open-ended: " in line]
    assert bool(within) == (epochs > 2)
    assert any("at the latest" in line for line in within) == (epochs == 20)


@pytest.mark.parametrize(("share", "said"), [(0.25, 1), (1.0, 0)])
def test_validation_that_takes_long_is_said_once_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, said: int
) -> None:
    clock = iter(range(0, 1_000_000, 10))  # every look at it is ten seconds later
    monkeypatch.setattr("segan_pl.training.callbacks.progress.time.monotonic", lambda: float(next(clock)))
    text, console = recorded(terminal=False)
    progress = Progress(console=console, plain_every=1e9, validation_share=share)
    trainer(tmp_path, progress, epochs=3).fit(Toy([0.3, 0.2, 0.1]), loader(1), loader(5))
    advice = [line for line in text.getvalue().splitlines() if line.startswith("validation takes")]
    assert len(advice) == said
    for line in advice:
        found = re.fullmatch(
            r"validation takes (\d+)% of an epoch that has one, more than --run\.validation_share 0\.25; "
            r"less often: --trainer\.check_val_every_n_epoch (\d+)",
            line,
        )
        assert found is not None
        taken = int(found[1]) / 100
        every = int(found[2])
        assert taken / (taken + every * (1 - taken)) <= 0.26
        assert taken / (taken + (every - 1) * (1 - taken)) > 0.24


def test_no_advice_to_validate_more_often_than_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1_000_000, 10))
    monkeypatch.setattr("segan_pl.training.callbacks.progress.time.monotonic", lambda: float(next(clock)))
    text, console = recorded(terminal=False)
    progress = Progress(console=console, plain_every=1e9)
    run = trainer(tmp_path, progress, epochs=60, check_val_every_n_epoch=30)
    run.fit(Toy([0.3] * 60), loader(1), loader(5))
    assert "validation takes" not in text.getvalue()  # more than a quarter of two epochs, and little of sixty


def test_plain_lines_come_only_so_often(tmp_path: Path) -> None:
    text, console = recorded(terminal=False)
    trainer(tmp_path, Progress(console=console, plain_every=0.0), epochs=1).fit(Toy(), loader(), loader(2))
    lines = text.getvalue().splitlines()
    assert sum(line.startswith("epoch 0 of 0-0, batch ") for line in lines) == 4
    assert "first look at validation: 1 of 1 cases" in lines
    assert "validation: 2 of 2 cases" in lines


def test_on_a_terminal_bars_show_the_time_left_and_the_best(tmp_path: Path) -> None:
    text, console = recorded(terminal=True)
    trainer(tmp_path, Progress(console=console), epochs=3).fit(Toy([0.3, 0.2, 0.1]), loader(), loader(2))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    assert re.search(r"epoch 2 of 0-2 .*4/4 +\d+ s left", shown)
    assert re.search(r"run .*12/12 +0 s left, best val/dice_wt 0\.3000 at epoch 0", shown)
    assert "epoch 2 of 0-2: loss 0." in shown
    assert text.getvalue().count("\x1b[?25l") == text.getvalue().count("\x1b[?25h"), "the cursor stays hidden"


def test_a_run_that_only_time_ends_has_no_number_of_epochs(tmp_path: Path) -> None:
    text, console = recorded(terminal=False)
    progress = Progress(console=console, plain_every=0.0)
    trainer(tmp_path, progress, epochs=-1, max_time={"seconds": 1}).fit(Toy([0.3] * 100_000), loader(), loader(1))
    line = next(line for line in text.getvalue().splitlines() if line.startswith("epoch 0, batch 2 of 4"))
    assert re.search(r"run [01] s left", line)


def test_a_short_test_ends_with_a_line_however_seldom_lines_are(tmp_path: Path) -> None:
    text, console = recorded(terminal=False)
    trainer(tmp_path, Progress(console=console)).test(Toy(), loader(3), verbose=False)
    assert text.getvalue() == "test: 3 of 3 cases\n"


def test_test_and_validate_count_cases(tmp_path: Path) -> None:
    text, console = recorded(terminal=False)
    run = trainer(tmp_path, Progress(console=console, plain_every=0.0))
    run.test(Toy(), loader(3), verbose=False)
    run.validate(Toy(), loader(2), verbose=False)
    assert text.getvalue().splitlines()[2:] == [
        "test: 3 of 3 cases",
        "validation: 1 of 2 cases",
        "validation: 2 of 2 cases",
    ]


def test_other_ranks_are_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, console = recorded(terminal=True)
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    trainer(tmp_path, Progress(console=console, plain_every=0.0), epochs=1).fit(Toy(), loader(), loader(2))
    assert text.getvalue() == ""


def test_it_is_the_only_progress_bar(tmp_path: Path) -> None:
    progress = Progress()
    run = trainer(tmp_path, progress, enable_progress_bar=True)
    assert [callback for callback in run.callbacks if isinstance(callback, ProgressBar)] == [progress]  # type: ignore[attr-defined]


def test_a_resumed_run_knows_the_best_of_before(tmp_path: Path) -> None:
    kept = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)
    silent = recorded(terminal=False)[1]
    first = trainer(tmp_path, Progress(console=silent), kept, epochs=1, enable_checkpointing=True)
    first.fit(Toy([0.8, 0.1]), loader(), loader(1))
    text, console = recorded(terminal=False)
    again = trainer(tmp_path, Progress(console=console), kept, epochs=2, enable_checkpointing=True)
    again.fit(Toy([0.8, 0.1]), loader(), loader(1), ckpt_path=tmp_path / "last.ckpt")
    line = text.getvalue().splitlines()[1]
    assert re.match(r"epoch 1 of 0-1: loss 0\.\d{4}; dice wt 0\.1000; best 0\.8000 at 0; ", line)


@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*")
def test_a_run_that_goes_on_within_an_epoch_counts_the_batches_of_before(tmp_path: Path) -> None:
    class Saving(Callback):
        def on_train_batch_end(self, run: L.Trainer, module: L.LightningModule, _: Any, batch: Any, index: int) -> None:
            if index == 2:
                run.save_checkpoint(tmp_path / "within.ckpt")

    trainer(tmp_path, Saving(), epochs=1).fit(Toy(), loader(10), loader(1))
    text, console = recorded(terminal=False)
    again = trainer(tmp_path, Progress(console=console, plain_every=0.0), epochs=2)
    again.fit(Toy(), loader(10), loader(1), ckpt_path=tmp_path / "within.ckpt")
    counts = [line.partition(":")[0] for line in text.getvalue().splitlines() if ", batch " in line]
    assert counts[0] == "epoch 0 of 0-1, batch 4 of 10"
    assert counts[6] == "epoch 0 of 0-1, batch 10 of 10"
    assert counts[7] == "epoch 1 of 0-1, batch 1 of 10"


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"val_check_batch": 10}, "6 min 40 s"),  # four epochs of 100 s
        ({"val_check_batch": 5}, "3 min 20 s"),
        ({"val_check_batch": 10, "check_val_every_n_epoch": 2}, "13 min 20 s"),
        ({"val_check_batch": 25, "check_val_every_n_epoch": None}, "13 min 20 s"),  # batch 100 of all; 20 are done
        ({"val_check_batch": None, "_val_check_time_interval": 30.0}, "2 min 00 s"),
    ],
)
def test_the_earliest_end_counts_the_validations_of_an_epoch(settings: dict[str, Any], left: str) -> None:
    run: Any = SimpleNamespace(callbacks=[VolumeDiceStopping(patience=4)], check_val_every_n_epoch=1)
    vars(run).update(settings)
    pace = Pace(batches=10, epoch=2, first_epoch=0)  # two epochs in 200 s
    assert run_left(run, pace, 200.0) == f"open-ended: 1 min 40 s an epoch, ends in {left} at the earliest"


def test_an_error_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    class Breaking(Toy):
        def training_step(self, batch, index: int) -> None:  # type: ignore[no-untyped-def]
            raise ArithmeticError("broken")

    text, console = recorded(terminal=True)
    with pytest.raises(ArithmeticError, match="broken"):
        trainer(tmp_path, Progress(console=console)).fit(Breaking(), loader(), loader(1))
    assert text.getvalue().count("\x1b[?25l") == text.getvalue().count("\x1b[?25h") > 0


def test_an_epoch_without_validation_prints_no_earlier_score(tmp_path: Path) -> None:
    text, console = recorded(terminal=False)
    run = trainer(tmp_path, Progress(console=console, plain_every=1e9), epochs=4, check_val_every_n_epoch=2)
    run.fit(Toy([0.1, 0.2, 0.3, 0.4]), loader(), loader(1))
    lines = [line for line in text.getvalue().splitlines() if re.match(r"epoch \d of 0-3: ", line)]
    assert ["dice wt 0." in line for line in lines] == [False, True, False, True]
