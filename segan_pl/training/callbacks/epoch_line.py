"""What an epoch brought, in one line of at most 100 columns; metrics.csv has all of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

COLUMNS = 100
DICE, MEAN = "val/dice_", "val/dice_mean"
EMPTY = "val/empty_prediction"


def epoch_line(
    epoch: str, logged: Mapping[str, float], *, networks: Collection[str], monitor: str | None, best: str, left: str
) -> str:
    """The epoch, each network's loss, each region's Dice, the monitored score, the best of it, and the time left.

    "2 empty" says that so many predicted masks are, whose reference is not.
    Where the line would be longer, numbers have fewer digits, then the mean, and in the end the regions are left out.

    Args:
        epoch: Which of all.
        logged: Scalars of the epoch by name, e.g. "train/segmentor_loss", "val/dice_wt".
        networks: Whose losses are shown; of other modules every "train/" scalar is.
        monitor: The score that chooses the checkpoint.
        best: Its best value in words, "" where there is none.
        left: The time left in words.
    """
    losses = {name: logged[f"train/{name}_loss"] for name in networks if f"train/{name}_loss" in logged}
    if not networks:
        losses = {name.removeprefix("train/"): value for name, value in logged.items() if name.startswith("train/")}
    scores = {
        name.removeprefix(DICE): value
        for name, value in logged.items()
        if name.startswith(DICE) and name != MEAN and not name.endswith("_mean")
    }
    mean = {"mean": logged[MEAN]} if MEAN in logged and len(scores) > 1 else {}
    other = {}
    if monitor is not None and monitor in logged and not monitor.startswith(DICE):
        other = {monitor.removeprefix("val/"): logged[monitor]}
    number = int(logged.get(EMPTY, 0))
    empty = f"{number} empty" if number else ""

    def line(digits: int, dice: Mapping[str, float], *more: str) -> str:
        def named(values: Mapping[str, float]) -> str:
            return " ".join(f"{name} {value:.{digits}f}" for name, value in values.items())

        loss = f"{'loss ' if networks else ''}{named(losses)}" if losses else ""
        parts = [loss, named(dice) and f"dice {named(dice)}", named(other)]
        return f"epoch {epoch}: {'; '.join(filter(None, [*parts, *more, best, left]))}"

    tried = [
        line(4, {**scores, **mean}, empty),
        line(3, {**scores, **mean}, empty),
        line(3, scores, empty),
        line(2, scores, empty),
        line(2, scores),
        line(3, mean or scores),
    ]
    return next((one for one in tried if len(one) <= COLUMNS), tried[-1][:COLUMNS])
