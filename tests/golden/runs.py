"""The golden runs as today's command line takes them. A renamed option is renamed here and never in `base_runs.py`."""

from __future__ import annotations

FILES = {"metrics": "metrics.csv", "scores": "scores/val_epoch_*.csv", "checkpoint": "checkpoints/last.ckpt"}
"""Where a run's folder holds what is compared; the scores' star is the epoch."""


def _line(name: str, system: str, *settings: str) -> list[str]:
    """One command line; @cohort, @prepared and @runs stand for the folders of the process that runs it."""
    return [
        *("fit", f"--config={system}", "--data.root=@cohort", "--data.cache_dir=@prepared", *settings),
        *(f"--run.directory=@runs/{name}", "--run.preview_every=0", "--data.workers=0", "--data.prepare_workers=1"),
        *("--data.val_fraction=0.25", "--data.stratify_by=[]", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"),
        *("--trainer.devices=1", "--trainer.enable_progress_bar=false", "--seed_everything=7"),
    ]


_SEGAN = (
    *(
        "--model.networks.segmentor.init_args.width=4",
        "--model.networks.critic.init_args.width=4",
        "--data.patch=[32,32]",
    ),
    *("--data.batch_size=12", "--data.preparation.crop=[12,40,40]"),
)
_SMALL_SLICES = (
    *(
        "--model.networks.segmentor.init_args.width=8",
        "--model.networks.segmentor.init_args.levels=3",
        "--data.patch=[32,32]",
    ),
    "--data.batch_size=12",
)

RUNS: dict[str, list[str]] = {
    "segan_cat": _line("segan_cat", "segan_cat", *_SEGAN),
    "segan_isic": _line(
        *(
            "segan_isic",
            "segan_isic",
            "--model.networks.segmentor.init_args.width=4",
            "--model.networks.critic.init_args.width=4",
        ),
        *("--model.schedule.init_args.step_size=1", "--data.patch=[64,64]", "--data.batch_size=12"),
        "--data.preparation.crop=[6,64,64]",
    ),
    "albunet2d": _line(
        *("albunet2d", "albunet2d", "--model.networks.segmentor.init_args.pretrained=null"),
        *("--model.networks.segmentor.init_args.width=8", "--model.networks.segmentor.init_args.filters=2"),
        *("--model.windows.step=[1,16,16]", "--data.patch=[1,32,32]", "--data.batch_size=6"),
        *(
            "--data.sampling.batches=4",
            "--data.augmentation=null",
        ),  # it draws otherwise: tests/data/sample/test_augmentation.py
    ),
    "reciprocal_ours": _line(
        *("reciprocal_ours", "reciprocal_ours", "--model.networks.segmentor.init_args.width=4"),
        *("--model.networks.critic.init_args.width=2", "--data.patch=[16,32,32]"),
    ),
    "unet3d": _line(
        *(
            "unet3d",
            "unet3d",
            "--model.networks.segmentor.init_args.width=4",
            "--model.networks.segmentor.init_args.levels=3",
        ),
        "--data.patch=[8,32,32]",
    ),
    "unet2d_critic": _line(
        *("unet2d_critic", "unet2d_critic", *_SMALL_SLICES, "--model.networks.critic.init_args.width=4"),
        "--model.objective.init_args.dice.init_args.form=smooth",
        "--model.objective.init_args.dice.init_args.epsilon=0.1",  # 1e-6 is rounded away in sums of many voxels
    ),
    # Also the averaged weights, bfloat16, and one backward pass for two networks.
    "modality_dropout": _line(
        *("modality_dropout", "segan_cat_small", "--model.networks.segmentor.init_args.width=4"),
        *("--model.networks.critic.init_args.width=4", "--model.modality_mask=channels", "--data.patch=[32,32]"),
        *("--data.batch_size=12", "--data.augmentation.modality_dropout=0.3", "--data.augmentation.mirror=[0,0,0]"),
    ),
    # Other modalities than its source's, the critic frozen but for its input until the second epoch, a layer besides.
    "transfer": _line(
        *("transfer", "segan_cat", "--config=finetuning_critic_input", *_SEGAN, "--data.modalities=[t1,t2]"),
        *("--finetuning.init_from=@runs/segan_cat/checkpoints/last.ckpt", "--finetuning.adapt_input=mean"),
        *("--finetuning.frozen=[segmentor.enc2]", "--finetuning.unfreeze_epoch=1"),
    ),
}
