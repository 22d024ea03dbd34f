from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from segan_pl.training.callbacks.early_stopping import VolumeDiceStopping
from segan_pl.training.callbacks.pace import Pace, cost, duration
from segan_pl.training.callbacks.readings import improves


def test_the_rest_of_an_epoch_and_of_a_run_follow_from_the_batches_done() -> None:
    pace = Pace()
    pace.start_run(100.0, epoch=0, epochs=3, batches=10)
    pace.done = 5
    assert pace.epoch_left(110.0) == pytest.approx(10.0)  # 2 s a batch, 5 left
    assert pace.run_left(110.0) == pytest.approx(50.0)  # 25 left


def test_validation_counts_for_the_run_once_it_was_seen() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=0, epochs=2, batches=10)
    pace.start_epoch(30.0, epoch=1, batches=10)  # 20 s of training, 10 s of validation
    pace.done = 5
    assert pace.epoch_left(40.0) == pytest.approx(10.0)
    assert pace.run_left(40.0) == pytest.approx(40.0 / 15 * 5)


def test_a_resumed_run_is_judged_by_its_own_epochs() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=8, epochs=10, batches=10)
    pace.done = 5
    assert pace.run_left(5.0) == pytest.approx(15.0)


def test_batches_that_were_done_before_this_process_count_for_the_rest_and_not_for_the_pace() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=2, epochs=4, batches=100, done=60)
    assert pace.epoch_left(1.0) is None
    pace.start_epoch(0.0, epoch=2, batches=100)
    pace.done += 10
    assert pace.epoch_left(20.0) == pytest.approx(60.0)  # 2 s a batch, 30 left
    assert pace.epoch_seconds(20.0) == pytest.approx(200.0)
    assert pace.run_left(20.0) == pytest.approx(260.0)  # 30 and an epoch of 100
    pace.start_epoch(80.0, epoch=3, batches=100)
    pace.done += 10
    assert pace.epoch_left(100.0) == pytest.approx(180.0)
    assert pace.run_left(100.0) == pytest.approx(180.0)


@pytest.mark.parametrize(
    ("validations", "interval", "every", "epoch", "done", "expected"),
    [
        (3, 100, 1, 0, 0, 3.0),  # one at each epoch's end
        (3, math.inf, 1, 0, 0, 3.0),
        (3, 100, 1, 0, 100, 3.0),  # that of the batch just done is still to come
        (3, 100, 5, 4, 0, 11.0),  # of epochs 4, 9, 14
        (1, 100, 5, 0, 0, 5.0),
        (3, 50, 1, 0, 0, 1.5),
        (3, 50, 1, 0, 60, 2.0),  # at batches 100, 150, 200
        (2, 30, 1, 0, 95, 1.6),  # none after batch 90: batches 30 and 60 of the next epoch
        (4, 50, 2, 0, 0, 4.0),  # two each in epochs 1 and 3
        (2, 250, None, 0, 0, 5.0),  # at batches 250 and 500 of all
        (2, 250, None, 3, 10, 4.5),  # 310 done: at 500 and 750
        (1, 50, None, 1, 50, 0.5),
    ],
)
def test_validations_are_counted_wherever_they_lie_in_an_epoch(
    validations: int, interval: float, every: int | None, epoch: int, done: int, expected: float
) -> None:
    pace = Pace(batches=100, epoch=epoch, done=done)
    assert pace.epochs_of(validations, interval=interval, every=every) == pytest.approx(expected)


def test_a_time_limit_ends_a_run_sooner_or_alone() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=0, epochs=3, batches=10)
    pace.done = 5
    assert pace.run_left(10.0, limit=7.0) == 7.0
    assert pace.run_left(10.0, limit=1e9) == pytest.approx(50.0)
    pace.epochs = None
    assert pace.run_left(10.0, limit=7.0) == 7.0
    assert pace.run_left(10.0) is None


def test_so_many_more_epochs_take_as_long_as_the_pace_says() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=0, epochs=None, batches=10)
    assert pace.until(1.0, 3) is None
    assert pace.epoch_seconds(1.0) is None
    pace.done = 5
    assert pace.epoch_seconds(10.0) == pytest.approx(20.0)  # 2 s a batch
    assert pace.until(10.0, 3) == pytest.approx(50.0)
    assert pace.until(10.0, 0) == 0.0


def test_nothing_is_promised_before_the_first_batch_or_without_an_end() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=0, epochs=3, batches=math.inf)
    assert pace.epoch_left(1.0) is None
    pace.done = 1
    assert pace.epoch_left(1.0) is None
    assert pace.run_left(1.0, limit=4.0) == 4.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (None, "?"), (math.inf, "?")],
)
def test_durations_read_as_words(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_nan_improves_on_nothing() -> None:
    assert not improves(math.nan, None, "max")
    assert improves(0.0, None, "max")
    assert not improves(0.5, 0.5, "max")


def test_the_share_of_validation_says_how_seldom_to_validate() -> None:
    pace = Pace()
    pace.start_run(0.0, epoch=0, epochs=2, batches=10)
    pace.start_epoch(0.0, epoch=0, batches=10)
    pace.validation_started = 20.0
    pace.end_validation(80.0)  # 60 s beside 20 s of training
    assert pace.validation_share(80.0) == pytest.approx(0.75)
    assert pace.epochs_a_validation(80.0, 0.25) == 9  # 60 s in 9 * 20 + 60 s are a quarter
    assert pace.epochs_a_validation(80.0, 0.75) == 1
    pace.start_epoch(80.0, epoch=1, batches=10)
    assert pace.validation_share(90.0) == 0


def beginning(pace: Pace, *stoppers: VolumeDiceStopping, every: int | None = 1, interval: float | None = 10) -> str:
    run: Any = SimpleNamespace(callbacks=list(stoppers), check_val_every_n_epoch=every, val_check_batch=interval)
    return cost(run, pace)


def test_at_the_start_the_cost_is_said_in_epochs() -> None:
    end = "; the time left follows the first epoch"
    stop = VolumeDiceStopping(patience=3)
    assert beginning(Pace(batches=10, epochs=28)) == f"cost: 28 epochs of 10 batches{end}"
    assert beginning(Pace(batches=10, epochs=3), stop) == (
        f"cost: 3 epochs of 10 batches; no early end (--run.patience 3){end}"
    )
    early = "may stop early, after {} at the earliest, by 3 validations without a better val/dice_wt"
    assert beginning(Pace(batches=10, epochs=28), stop, every=4) == (
        f"cost: 28 epochs of 10 batches, validation after every 4 epochs; {early.format('12 epochs')}{end}"
    )
    resumed = Pace(batches=10, epochs=28, epoch=20, first_epoch=20)
    stop.waited = 2
    assert beginning(resumed, stop) == (
        f"cost: 28 epochs of 10 batches, 8 of them to go; {early.format('21 epochs')}{end}"
    )


def test_a_run_without_a_last_epoch_promises_no_number_of_epochs() -> None:
    for epochs in (None, 100_000):
        said = beginning(Pace(batches=1, epochs=epochs), VolumeDiceStopping(patience=300), interval=1)
        assert said.startswith("cost: no last epoch, epochs of 1 batch; may stop early, after 300 epochs at the earl")
    timed = beginning(Pace(batches=math.inf, epochs=None), VolumeDiceStopping(patience=2), interval=None)
    assert timed.startswith("cost: no last epoch; may stop early, by 2 validations without")
