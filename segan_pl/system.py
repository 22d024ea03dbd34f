"""The only LightningModule: it loops over an objective's turns, and scores whole volumes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from segan_pl.batch import Batch
from segan_pl.checkpoint_format import pack, unpack
from segan_pl.data.labels import label_scheme
from segan_pl.errors import UsageError
from segan_pl.evaluation.cases import CaseScore, summary_names
from segan_pl.evaluation.counts import POLICIES
from segan_pl.evaluation.preview import PreviewSlice
from segan_pl.evaluation.subsets import SubsetScore, dice_over_subsets_names, subsets_of
from segan_pl.inference.slices import predict_slices
from segan_pl.inference.windows import Windows, takes_any_depth, window_logits
from segan_pl.objectives.base import LossTerms, Objective, Play, Turn
from segan_pl.players import (
    MEMORY_FORMATS,
    averaged_copy,
    compile_or_stay_eager,
    has_gradient,
    negate_gradients,
    one_scale,
    only,
    to_channels_last,
)
from segan_pl.presence import Presence, informed_on_volumes, require_presence, segmentor_channels
from segan_pl.rehearsal import least_batch, require_sizes, require_windows
from segan_pl.scoring import ScoreOn, VolumeScoring

log = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names the player and the batch's cases."""


def rmsprop(params: Iterable[nn.Parameter]) -> Optimizer:
    """RMSprop as SegAN-CAT ran it: lr 2e-5 (paper, section V), alpha 0.9 and eps 1e-7 (the authors' code)."""
    return torch.optim.RMSprop(params, lr=2e-5, alpha=0.9, eps=1e-7)


class AdversarialSegmentation(L.LightningModule):
    """A segmentor, whoever plays against it, and the game between them.

    Args:
        segmentor: Built with (in_channels, out_channels), which follow from modalities and labels.
        objective: The game.
        critic: Built with (in_channels), which the objective derives; leave it out where the objective has no critic.
        modalities: From the data module.
        labels: Name of the label scheme, e.g. "regions/brats2023", from the data module.
        segmentor_optimizer: Takes the segmentor's parameters.
        critic_optimizer: Takes the critic's parameters.
        schedule: Learning-rate scheduler of both players, stepped once an epoch; default constant (the papers').
        averaging: Decay of an exponential moving average of the segmentor's weights, used for scoring; default none.
            Normalisation statistics are not averaged but the segmentor's own.
        accumulate: Batches a step; the last group of an epoch may be smaller. When players alternate, the segmentor's
            earlier batches of a group meet the critic before its step, so a group is not quite one larger batch.
        clip_gradient: Largest gradient norm a player; default unlimited.
        score_on: "volume": the whole prepared region is predicted and scored on the original grid, so tumour outside
            the region counts as missed; "crop": the central `crop` of it is (the paper's way).
        crop: (D, H, W) of the scored part with score_on "crop".
        empty_policy: What empty masks score (docs/evaluate.md).
        presence: What the segmentor is told of modalities that are not there: "zeros" in their place, or "channels":
            also a constant plane of 0 or 1 a modality, behind the image. The critic sees the image only.
        subsets: Validation also predicts and scores each case from "all" subsets of its modalities (15 of 4, as many
            times the cost), or as "given" only.
        channels_last: Memory format of images and weights.
        compile: torch.compile the networks; falls back to eager with a notice.
        slices: Slices a forward pass in validation, of a 2-D network.
        windows: How a 3-D network walks over a volume in validation; `predict` does it alike.
        patch: From the data module: three numbers tell a 3-D network.
        previews: Cases of which one slice is kept at each validation.
    """

    def __init__(
        self,
        segmentor: Callable[[int, int], nn.Module],
        objective: Objective,
        critic: Callable[[int], nn.Module] | None = None,
        *,
        modalities: list[str],
        labels: str,
        segmentor_optimizer: OptimizerCallable = rmsprop,
        critic_optimizer: OptimizerCallable = rmsprop,
        schedule: LRSchedulerCallable | None = None,
        averaging: float | None = None,
        accumulate: int = 1,
        clip_gradient: float | None = None,
        score_on: ScoreOn = "volume",
        crop: tuple[int, int, int] = (128, 160, 160),
        empty_policy: Literal["segan_cat", "nnunet", "brats2018", "brats2021", "brats2023", "reciprocal"] = "segan_cat",
        presence: Presence = "zeros",
        subsets: Literal["given", "all"] = "given",
        channels_last: bool = False,
        compile: bool = False,
        slices: int = 32,
        windows: Windows | None = None,
        patch: tuple[int, ...] | None = None,
        previews: int = 3,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scheme = label_scheme(labels)
        self.modalities = list(modalities)
        self.objective = objective
        channels = len(self.scheme.channels)
        require_presence(presence)
        for option, value in (("accumulate", accumulate), ("slices", slices)):
            if value < 1:
                raise UsageError(f"--model.{option} {value}: expected at least 1")
        self.presence: Presence = presence
        self.subsets = subsets
        players: dict[str, nn.Module] = {
            "segmentor": segmentor(segmentor_channels(len(modalities), presence), channels)
        }
        if critic is not None:
            players["critic"] = critic(objective.critic_channels(len(modalities), channels))
        if set(players) != set(objective.players):
            raise ValueError(
                f"objective {type(objective).__name__} is played by {sorted(objective.players)}, "
                f"the configuration gives {sorted(players)}"
            )
        self.players = nn.ModuleDict(players)
        self.averaged = averaged_copy(self.segmentor, averaging) if averaging else None
        self.makers = {"segmentor": segmentor_optimizer, "critic": critic_optimizer}
        self.schedule = schedule
        self.accumulate = accumulate
        self.clip_gradient = clip_gradient
        self.scoring = VolumeScoring(
            self.scheme,
            POLICIES[empty_policy],
            score_on=score_on,
            crop=crop,
            shown=self.modalities.index("flair") if "flair" in self.modalities else 0,
            previews=previews,
        )
        self.channels_last = channels_last
        self.slices = slices
        self.windows = windows or Windows()
        self.patch = patch
        self.batches_seen = 0
        self.groups_seen = 0
        self.initialised_from: dict[str, Any] | None = None  # see transfer.initialise
        self.allow_other_modalities = False  # of a checkpoint that is scored
        if channels_last:
            to_channels_last(self)
        if compile:
            compile_or_stay_eager(self.players.values())

    @property
    def segmentor(self) -> nn.Module:
        """The network that is kept: image to logits."""
        return self.players["segmentor"]

    @property
    def scored(self) -> nn.Module:
        """The network that validation scores: the averaged segmentor where there is one."""
        return self.averaged if self.averaged is not None else self.segmentor

    def require_patch(self, patch: Sequence[int], *, low_on_cpu: bool = False) -> None:
        """Refuse a training patch or windows that a player does not take, before anything is prepared.

        Args:
            patch: (H, W) or (D, H, W).
            low_on_cpu: Whether batches run in bfloat16 on the CPU.
        """
        require_sizes(dict(self.players.items()), self._inputs(), patch, self.windows, low_on_cpu=low_on_cpu)

    def require_windows(self, patch: Sequence[int]) -> None:
        """Refuse windows that the segmentor does not take, or that say nothing."""
        require_windows(self.segmentor, patch, self.windows)

    def least_batch(self, patch: Sequence[int]) -> int:
        """Patches that a batch needs in training, 1 or 2."""
        return least_batch(dict(self.players.items()), self._inputs(), patch)

    def _inputs(self) -> dict[str, int]:
        """Each player's input channels."""
        modalities = len(self.modalities)
        inputs = {"segmentor": segmentor_channels(modalities, self.presence)}
        if "critic" in self.players:
            inputs["critic"] = self.objective.critic_channels(modalities, len(self.scheme.channels))
        return inputs

    def metric_names(self, stage: str = "val") -> list[str]:
        """Everything that validation logs, known before the first epoch."""
        regions = self.scheme.foreground
        over_subsets = dice_over_subsets_names(regions) if self.subsets == "all" else []
        return [f"{stage}/{name}" for name in [*summary_names(regions), *over_subsets]]

    # -- the game ----------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """One optimiser a player, in the objective's order, and a scheduler each where one is asked for."""
        optimizers = [self.makers[name](self.players[name].parameters()) for name in self.objective.players]
        if self.schedule is None:
            return optimizers
        schedulers = [self.schedule(optimizer) for optimizer in optimizers]
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
            raise UsageError("--model.schedule ReduceLROnPlateau follows a score; choose a schedule over epochs")
        return optimizers, schedulers

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Every player's turn on one batch, after one forward pass of the segmentor."""
        batch = batch._replace(image=self._format(batch.image), target=self._format(batch.target, torch.float32))
        play = Play(dict(self.players.items()), batch, self.scheme.activation, self.presence)
        first = batch_idx - batch_idx % self.accumulate  # of the group of batches that share a step
        group = int(min(self.accumulate, self.trainer.num_training_batches - first))
        step = batch_idx == first + group - 1
        with one_scale(getattr(self.trainer.precision_plugin, "scaler", None)):
            for turn in self.objective.turns():
                if self.groups_seen % turn.every == 0:
                    self._move(play, turn, group=group, step=step)
        self.batches_seen += 1
        self.groups_seen += step

    @property
    def _input_dtype(self) -> torch.dtype:
        return next(self.segmentor.parameters()).dtype

    def _format(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """In the networks' memory format, which losses over logits and targets are fastest in too."""
        memory = MEMORY_FORMATS[tensor.ndim] if self.channels_last else torch.contiguous_format
        return tensor.to(dtype or self._input_dtype, memory_format=memory)

    def _move(self, play: Play, turn: Turn, *, group: int, step: bool) -> None:
        """One turn: the player's loss, backward, and on a group's last batch the step; opponents climb where it falls.

        A player without any gradient, because it is frozen, takes no step and is not clipped.
        """
        movers = (turn.player, *turn.opponents)
        with only(movers, play.players):
            terms = turn.loss(play)
            self._require_finite(terms, turn.player, play.batch)
            if terms.total.requires_grad:  # not so when every mover is frozen
                self.manual_backward(terms.total / group)
        size = len(play.batch.image)
        self.log_dict(
            {f"train/{turn.player}_{name}": value for name, value in terms.parts.items()},
            on_step=False,
            on_epoch=True,
            batch_size=size,
            sync_dist=True,
        )
        moving = [name for name in movers if step and has_gradient(play.players[name])]
        for name in moving:
            if name in turn.opponents:
                negate_gradients(play.players[name])
            self._step(name)
        if moving and turn.after is not None:
            turn.after(play)

    def _step(self, player: str) -> None:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        optimizer = optimizers[self.objective.players.index(player)]
        optimizer.step()
        optimizer.zero_grad()
        if player == "segmentor" and self.averaged is not None:
            self.averaged.update_parameters(self.segmentor)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: gradients are complete and no longer scaled."""
        if self.clip_gradient is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_gradient)

    def _require_finite(self, terms: LossTerms, player: str, batch: Batch) -> None:
        if not torch.isfinite(terms.total):
            parts = ", ".join(f"{name} {float(value):g}" for name, value in terms.parts.items())
            self._refuse_non_finite(f"batch {self.batches_seen}: the {player}'s loss", f"({parts})", batch)

    def _refuse_non_finite(self, what: str, detail: str, batch: Batch) -> None:
        cases = ", ".join(self.trainer.datamodule.names(batch.case))  # type: ignore[attr-defined]
        raise NonFiniteLossError(
            f"epoch {self.current_epoch}, {what} is not finite {detail}; cases: {cases}; the last good checkpoint is "
            f"kept; lower the learning rate or look at these cases"
        )

    def on_train_epoch_start(self) -> None:
        """Say when nothing can be learnt any more."""
        if all(group["lr"] == 0 for optimizer in self.trainer.optimizers for group in optimizer.param_groups):
            rank_zero_warn(
                f"epoch {self.current_epoch}: every learning rate is 0, the schedule has ended; give it as many epochs "
                f"as --trainer.max_epochs"
            )

    def on_train_epoch_end(self) -> None:
        """Step the schedulers by hand."""
        self.log("step", float(self.batches_seen))  # the loggers' axis
        schedulers = self.lr_schedulers()
        with warnings.catch_warnings():  # a schedule goes by epochs, also that of a player that has not moved yet
            warnings.filterwarnings("ignore", message="Detected call of .lr_scheduler.step")
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers] if schedulers else []:
                scheduler.step()  # type: ignore[call-arg]

    # -- whole volumes -----------------------------------------------------------------------------------------------

    def forward(self, image: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits (C, D, H, W) of one prepared volume (M, D, H, W).

        Args:
            image: What it holds of modalities that are not there does not matter.
            present: (M,) bool, which are there; default all.
        """
        present = torch.ones(len(image), dtype=torch.bool) if present is None else present
        network = informed_on_volumes(self.scored, present, self.presence)
        if self.patch is not None and len(self.patch) == 3:
            return window_logits(
                network,
                image.to(self._input_dtype),
                patch=self.patch,
                windows=self.windows,
                activation=self.scheme.activation,
                background=self.background,
                any_depth=takes_any_depth(self.segmentor),
            )
        return predict_slices(
            network,
            image,
            divisor=int(getattr(self.segmentor, "divisor", 1)),
            batch=self.slices,
            channels_last=self.channels_last,
            dtype=self._input_dtype,
            background=self.background,
        )

    @property
    def background(self) -> float:
        """The prepared value of padding, as the data that are scored have it; 0 without any."""
        data = getattr(self._trainer, "datamodule", None)
        return data.preparation.background if data is not None else 0.0

    @property
    def case_scores(self) -> list[CaseScore]:
        """One row a case and region, of the last scoring."""
        return self.scoring.case_scores

    @property
    def subset_scores(self) -> list[SubsetScore]:
        """One row a case, subset of its modalities and region, of the last scoring with `subsets` "all"."""
        return self.scoring.subset_scores

    @property
    def previews(self) -> list[PreviewSlice]:
        """A slice each of the first few cases of the last scoring."""
        return self.scoring.previews

    def on_validation_start(self) -> None:
        """All ranks score with rank 0's normalisation statistics, so scores do not depend on who scores a case."""
        self.scoring.begin()
        if dist.is_available() and dist.is_initialized():
            for buffer in self.buffers():
                dist.broadcast(buffer, 0)

    on_test_start = on_validation_start

    def on_fit_start(self) -> None:
        """Buffers are broadcast at validation (above), not at every forward: ranks may score different numbers."""
        if isinstance(self.trainer.model, nn.parallel.DistributedDataParallel):
            self.trainer.model.broadcast_buffers = False

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict one case, and count its voxels."""
        row, data = int(batch.case), self.trainer.datamodule  # type: ignore[attr-defined]
        image, target = self.scoring.scored_part(batch.image[0]), self.scoring.scored_part(batch.target[0])
        logits = self._finite_logits(image, batch.present[0], batch)
        self.scoring.count(row, target, logits, data)
        if self.subsets == "all":
            self._score_subsets(row, image, target, batch)
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self.scoring.keep_preview(data.cases[row].name, image, target, logits)

    test_step = validation_step

    def _finite_logits(self, image: Tensor, present: Tensor, batch: Batch) -> Tensor:
        """The forward pass, refused where it is not finite: it would score 0, and the weights replace last.ckpt."""
        logits = self.forward(image, present)
        if not torch.isfinite(logits).all():
            self._refuse_non_finite("validation: the network's output", "", batch)
        return logits

    def _score_subsets(self, row: int, image: Tensor, target: Tensor, batch: Batch) -> None:
        """Predict and count a case once more from every part of its modalities; from all of them it just was."""
        *parts, whole = subsets_of(batch.present[0].tolist())
        for subset in parts:
            kept = torch.zeros_like(batch.present[0])
            kept[list(subset)] = True
            logits = self._finite_logits(image, kept, batch)
            self.scoring.count(row, target, logits, self.trainer.datamodule, subset=subset)  # type: ignore[attr-defined]
        self.scoring.count_again(row, whole)

    def on_validation_epoch_end(self) -> None:
        """Log the means over cases, each scored once whatever the number of ranks."""
        self._finish("val", "val")

    def on_test_epoch_end(self) -> None:
        """The same for the test cases."""
        self._finish("test", self.trainer.datamodule.test_part)  # type: ignore[attr-defined]

    def _finish(self, stage: str, part: str) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        expected = None if self.trainer.sanity_checking else getattr(data.split, part)
        summary = self.scoring.finish(data, expected)
        logged = {f"{stage}/{name}": value for name, value in summary.items()}
        self.log_dict({**logged, "step": float(self.batches_seen)})

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning leaves out: random state, batches seen, data preparation, a format version."""
        pack(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another format, network or label scheme; let explicit settings win."""
        unpack(self, checkpoint)
