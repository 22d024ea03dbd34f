"""The short help of fit, validate and test: what most runs need, at once; `--help all` loads PyTorch for the rest."""

from __future__ import annotations

from collections.abc import Sequence

DATA = """\
data:
  --root FOLDER                          the data set, in any layout that `segan_pl check --root FOLDER` finds
  --data.modalities [flair,t1ce]         the images that are read, default those of the configuration
  --data.missing zero                    a case without one of them: zero, drop or refuse (default)
  --data.split_file FILE --data.fold 0   a split that `segan_pl split` wrote, and its fold
"""
HOW = """\
  --trainer.accelerator cpu|gpu          default: a GPU where there is one
  --trainer.devices 2                    that many ranks on this machine, each with its own batches
  --trainer.precision bf16-mixed         default 32, or what the system is safe in and the machine fast
  --data.workers 4                       processes that load data, default by the size of an epoch
"""
MORE = """\
  --help all                             every option of {command}, with its type and default (a few seconds)
  --print_config                         the whole configuration of the line, as YAML; nothing is run
  --debug                                an error's traceback
"""
FIT = f"""usage: segan_pl fit -c SYSTEM [-c FILE ...] --root FOLDER [options]

Train from MRI files to the best checkpoint. The same --run.directory again goes on where it stopped.

configuration:
  -c, --config NAME                      a shipped file by its name (segan_cat), or a path; later ones go over
  --KEY.KEY VALUE                        one value over all files; lists in brackets: --data.patch [160,160]

{DATA}\
  --data.val_fraction 0.2                cases for validation, stratified; --data.test_fraction likewise
  --data.batch_size 16                   patches of a step, of each rank

training:
  --trainer.max_epochs 100               the end at the latest; --trainer.max_time 00:08:00:00 is eight hours
  --run.patience 30                      validations without a better score that end the run
  --run.monitor val/dice_mean            the score that chooses the checkpoint
  --model.optimizers.default.init_args.lr 0.001
  --model.networks.segmentor.init_args.width 16
  --seed_everything 1 --data.seed 1      of the weights; of order and crops

machine:
{HOW}
output:
  --run.directory FOLDER                 default runs/<experiment>/<date>_<id>
  --run.loggers [wandb,tensorboard]      besides metrics.csv; mlflow, trackio; --run.wandb_offline true

before a long run:
  -c debug_fast                          one batch and one case; debug_overfit, debug_profile likewise
  --trainer.fast_dev_run true            the same, and no file is left

transfer learning:
  --finetuning.init_from CHECKPOINT      weights to begin with; -c finetuning_NAME freezes layers

more:
{MORE.format(command="fit")}"""
SCORING = """usage: segan_pl {command} --ckpt_path CHECKPOINT [options]

Score a checkpoint on {cases}.
The configuration is the checkpoint's own; options change it.

{data}
machine:
{how}
output:
  --run.directory FOLDER                 default: the checkpoint's run; its scores/ has the tables
  --model.metrics [dice,hd95_mm]         the metrics, default those of the run
  --model.subsets all                    the scores of every subset of the modalities

more:
{more}"""


def short_help(arguments: Sequence[str]) -> str | None:
    """The short help that a line of `fit`, `validate` or `test` asks for; None where it asks for none, or for all."""
    asked = [place for place, argument in enumerate(arguments) if argument in ("-h", "--help")]
    if not asked or arguments[asked[0] + 1 : asked[0] + 2] == ["all"]:
        return None
    command = arguments[0]
    if command == "fit":
        return FIT
    cases = {"validate": "the validation cases", "test": "the test cases, one row for each case and region"}[command]
    return SCORING.format(command=command, cases=cases, data=DATA, how=HOW, more=MORE.format(command=command))


def without_all(arguments: Sequence[str]) -> list[str]:
    """The line without the word that follows --help."""
    return [
        argument
        for place, argument in enumerate(arguments)
        if not (argument == "all" and place and arguments[place - 1] in ("-h", "--help"))
    ]
