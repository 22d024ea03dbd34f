"""The LightningModule: its settings and data; `phase_loop` trains, `whole_volumes` predicts, `checkpoint` saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from segan_pl.data.labels import label_scheme
from segan_pl.data.source import CaseSource, case_source, require_alike
from segan_pl.errors import UsageError
from segan_pl.evaluation.metrics.named import CHEAP, evaluation_metrics, with_named
from segan_pl.evaluation.policies import POLICIES
from segan_pl.inference import PredictIn
from segan_pl.inference.brain import clipped_note, require_predict_in
from segan_pl.inference.inferer import Windows
from segan_pl.nets.blocks import to_channels_last
from segan_pl.nets.modality_mask import ModalityMask, require_modality_mask, segmentor_channels
from segan_pl.objectives.base import Objective
from segan_pl.training.checkpoint import SavedSystem
from segan_pl.training.dry_run import least_batch, require_sizes, require_windows
from segan_pl.training.epoch_means import EpochMeans
from segan_pl.training.finetuning.pretrained import load_pretrained
from segan_pl.training.from_checkpoint import load_system
from segan_pl.training.networks import (
    NetworkFactory,
    averaged_copies,
    compile_or_stay_eager,
    require_compilable,
    require_named,
    require_networks,
    require_resolutions_read,
    spectrally_normed,
    unreached_note,
)
from segan_pl.training.phase_loop import DEFAULT
from segan_pl.training.validation import ScoreOn, VolumeScoring


class AdversarialSegmentation(SavedSystem):
    """A segmentor, the networks that train it, and an objective that says in which phases they move.

    Args:
        networks: By name, as the objective has them; built with its `channels`, which follow from the data.
        objective: What is optimised.
        modalities: From the data module.
        labels: Name of the label scheme, e.g. "regions/brats2023", from the data module.
        optimizers: By a network's name, or "default" for all others; each takes its network's parameters.
        schedule: Learning-rate scheduler of every network, stepped after every epoch; default constant (the papers'). A
            length (total_iters, T_max) of 0, or null in a file, is that of the run.
        averaging: Decay of an exponential moving average of the segmentor's weights, used for scoring; default none. Of
            other networks by name, e.g. {generator: 0.99}. Normalisation statistics are not averaged but the network's
            own.
        spectral_norm: Networks whose kernels are divided by their largest singular value, e.g. [critic]
            (docs/critics.md); default none.
        accumulate: Batches of a step; the last group of an epoch may be smaller. When networks alternate, the
            segmentor's earlier batches of a group meet the critic before its step, so a group is not quite one larger
            batch. Refused where a network moves in more than one phase.
        clip_gradient: Largest gradient norm of a network; default unlimited.
        score_on: "volume": the whole prepared region is predicted and scored on the original grid, so tumour outside
            the region counts as missed; "crop": the central `crop` of it is (the paper's way).
        crop: (D, H, W) of the scored part with score_on "crop".
        metrics: What validation computes for each case and region, as val/NAME_REGION: names (iou, hd95_mm, ...), or
            import paths of your own (docs/evaluate.md); Dice is always among them. Default dice, precision, sensitivity
            and specificity, which cost nothing. `test` computes what `segan_pl evaluate` does, and these.
        empty_policy: What empty masks score (docs/evaluate.md).
        modality_mask: How the segmentor learns which modalities are missing: "zeros" in their place, or "channels":
            also a constant channel of 0 or 1 for each modality, behind the image. Other networks see the
            image only.
        subsets: Validation also predicts and scores each case from "all" subsets of its modalities (15 of 4, as many
            times the cost), or as "given" only.
        channels_last: Memory format of images and weights; another one changes results by rounding only.
        compile: torch.compile the networks; falls back to eager with a notice.
        slices: Slices in one forward pass of a 2-D network in validation.
        windows: How a 3-D network walks over a volume in validation; `predict` does it alike.
        predict_in: "anywhere", or in the "brain" alone: where the prepared image of some modality is not background, so
            of stripped brains where its files are not 0. Validation, `test` and `predict` do it alike.
        patch: From the data module: three numbers tell a 3-D network.
        previews: Cases of which one slice is kept at each validation.
    """

    def __init__(
        self,
        networks: dict[str, NetworkFactory],
        objective: Objective,
        *,
        modalities: list[str],
        labels: str,
        optimizers: dict[str, OptimizerCallable] | None = None,
        schedule: LRSchedulerCallable | None = None,
        averaging: float | dict[str, float] | None = None,
        spectral_norm: list[str] | None = None,
        accumulate: int = 1,
        clip_gradient: float | None = None,
        score_on: ScoreOn = "volume",
        crop: tuple[int, int, int] = (128, 160, 160),
        metrics: list[str] | None = None,
        empty_policy: Literal["segan_cat", "nnunet", "brats2018", "brats2021", "brats2023", "reciprocal"] = "segan_cat",
        modality_mask: ModalityMask = "zeros",
        subsets: Literal["given", "all"] = "given",
        channels_last: bool = True,
        compile: bool = False,
        slices: int = 32,
        windows: Windows | None = None,
        predict_in: PredictIn = "anywhere",
        patch: tuple[int, ...] | None = None,
        previews: int = 3,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scheme = label_scheme(labels)
        self.modalities = list(modalities)
        self.objective = objective
        require_modality_mask(modality_mask)
        require_predict_in(predict_in)
        for option, value in (("accumulate", accumulate), ("slices", slices)):
            if value < 1:
                raise UsageError(f"--model.{option} {value}: expected at least 1")
        if clip_gradient is not None and not clip_gradient > 0:
            raise UsageError(f"--model.clip_gradient {clip_gradient}: expected a norm above 0, or null for no limit")
        self.modality_mask: ModalityMask = modality_mask
        self.subsets = subsets
        if objective.exclusive_labels and self.scheme.activation != "softmax":
            raise UsageError(
                f"--data.labels {self.scheme.target}: {type(objective).__name__} needs labels that exclude each other; "
                f"give --data.labels labels"
            )
        given = {name: objective.built_like.get(name, name) for name in objective.networks}
        require_networks(type(objective).__name__, list(dict.fromkeys(given.values())), networks)
        self.networks = nn.ModuleDict({name: networks[of](**self.channels(name)) for name, of in given.items()})
        spectrally_normed(self.networks, spectral_norm or (), objective)
        require_resolutions_read(dict(self.networks.items()), objective)
        for name in objective.teachers:
            self.networks[name].requires_grad_(False)
        self.averaged = averaged_copies(self.networks, averaging)
        self.optimizer_of = optimizers or {}
        require_named("optimizers", self.optimizer_of, [*self.trained, DEFAULT])
        self.schedule = schedule
        self.accumulate = accumulate
        self.clip_gradient = clip_gradient
        self.scoring = VolumeScoring(
            self.scheme,
            POLICIES[empty_policy],
            metrics=CHEAP if metrics is None else with_named(CHEAP[:1], metrics, "--model.metrics"),
            tested=with_named(evaluation_metrics(), metrics or (), "--model.metrics"),
            score_on=score_on,
            crop=crop,
            shown=self.modalities.index("flair") if "flair" in self.modalities else 0,
            previews=previews,
            subsets=subsets == "all",
            losses=["loss", *(f"loss_{part}" for part in parts)] if (parts := objective.validation_parts()) else [],
        )
        self.channels_last = channels_last
        self.slices = slices
        self.windows = windows or Windows()
        self.predict_in: PredictIn = predict_in
        self.patch = patch
        self.batches_seen = 0
        self.groups_seen = 0
        self.pictures = {}
        self.epoch_means = EpochMeans()
        self.initialised_from = None
        self.allow_other_modalities = False
        self.trained_background = 0.0
        self.config_text = ""
        self.began = False
        if channels_last:
            to_channels_last(self)
        if compile:
            require_compilable(objective)
            compile_or_stay_eager(self.networks.values())

    def channels(self, network: str) -> dict[str, int]:
        """What a network's factory is called with."""
        network = self.objective.built_like.get(network, network)
        modalities = len(self.modalities)
        if network == "segmentor":
            modalities = segmentor_channels(modalities, self.modality_mask)
        return self.objective.channels(network, modalities, len(self.scheme.channels))

    def require_patch(self, patch: Sequence[int], *, low_on_cpu: bool = False) -> None:
        """Refuse a training patch or windows that a network does not take, before anything is prepared.

        Args:
            patch: (H, W) or (D, H, W).
            low_on_cpu: Whether batches run in bfloat16 on the CPU.
        """
        require_sizes(dict(self.networks.items()), self._in_channels, patch, self.windows, low_on_cpu=low_on_cpu)

    def require_windows(self, patch: Sequence[int]) -> None:
        """Refuse windows that the segmentor does not take, or that say nothing."""
        require_windows(self.segmentor, patch, self.windows)

    def least_batch(self, patch: Sequence[int]) -> int:
        """Patches that a batch needs in training, 1 or 2."""
        return least_batch(dict(self.networks.items()), self._in_channels, patch)

    def least_made(self, patch: Sequence[int]) -> int:
        """Patches that must be made of noise at once in training, 1 or 2."""
        makers = {
            name: getattr(one, "noise", None) for name, one in self.networks.items() if name not in self._in_channels
        }
        noise = {name: numbers for name, numbers in makers.items() if isinstance(numbers, int)}
        return least_batch(dict(self.networks.items()), {}, patch, noise=noise)

    @property
    def _in_channels(self) -> dict[str, int]:
        channels = {name: self.channels(name) for name in self.networks}
        return {name: one["in_channels"] for name, one in channels.items() if "in_channels" in one}

    # -- data -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse data of other channels, and before a fit what `begin` refuses; `segan_pl fit` has asked that earlier.

        Raises:
            UsageError: The data do not fit the model, or the networks do not take their patch.
        """
        source = case_source(self.trainer)
        if source is None:
            return
        require_alike(source, self.modalities, self.scheme.name)
        self.patch = self.patch or tuple(source.patch)
        if self.predict_in == "brain" and (note := clipped_note(source.describe()["preparation"])):
            rank_zero_info(f"note: {note}")
        made = dict(self.networks.items())
        if stage == "fit" and (note := unreached_note(made, source.describe()["preparation"])):
            rank_zero_info(f"note: {note}")
        if stage == "fit" and not self.began:
            low = "bf16" in str(self.trainer.precision) and self.trainer.strategy.root_device.type == "cpu"
            self.require_data(source, low_on_cpu=low)
            for line in [] if self.trainer.ckpt_path else self.load_pretrained():
                rank_zero_info(line)
            self.began = True

    def require_data(self, source: CaseSource, *, low_on_cpu: bool = False) -> None:
        """Refuse a patch, windows or batches that a network does not take, and data without what the objective needs.

        Args:
            source: The data.
            low_on_cpu: Whether batches run in bfloat16 on the CPU.

        Raises:
            UsageError: One does not, or the objective needs unlabelled cases and there are none.
        """
        self.require_patch(source.patch, low_on_cpu=low_on_cpu)
        if self.objective.needs_unlabelled and getattr(source, "split", True) and not source.rows("unlabelled"):
            raise UsageError(
                f"{type(self.objective).__name__} needs unlabelled cases too, and every training case is labelled; "
                f"give --data.n_labelled N, so that the others count as unlabelled, or --data.unlabelled use"
            )
        require_batch = getattr(source, "require_batch", None)
        # A loss may show the networks fewer patches at once than a batch has.
        fewest = getattr(source, "fewest", source.batch_size)
        if require_batch is not None and (len(source.patch) == 3 or fewest <= 1):
            least, of_unlabelled = self.least_batch(source.patch), 0
            if self.objective.reads_unlabelled():
                of_unlabelled = max(least, self.least_made(source.patch))
            require_batch(least, of_unlabelled)

    def load_pretrained(self) -> list[str]:
        """Load ImageNet's weights where a network asks for them; lines that say so."""
        modalities = len(self.modalities)
        mask_channels = segmentor_channels(modalities, self.modality_mask) - modalities
        return load_pretrained(self, mask_channels=mask_channels)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: Path | str,
        map_location: Any = None,
        hparams_file: None = None,
        strict: Literal[True] | None = None,
        weights_only: Literal[True] | None = None,
        **given: Any,
    ) -> Self:
        """The system that a checkpoint was saved of: its networks, objective, settings and weights.

        Args:
            checkpoint_path: Of `segan_pl fit`, or of a trainer made by hand. No code in it runs; what it names is
                imported only from the packages that a configuration may name, or where it is imported already.
            map_location: As torch.load's; default the CPU.
            hparams_file: Not used; the checkpoint says all.
            strict: Weights always have to fit.
            weights_only: Nothing else is ever loaded.
            **given: Arguments in place of the checkpoint's, e.g. networks that have no name to import them by.

        Raises:
            UsageError: An option asks for what is not possible.
            CheckpointError: As `from_checkpoint.load_system`.
        """
        if hparams_file is not None or strict not in (None, True) or weights_only not in (None, True):
            raise UsageError("load_from_checkpoint takes no hparams_file, strict=False or weights_only=False")
        return load_system(cls, checkpoint_path, given, map_location)
