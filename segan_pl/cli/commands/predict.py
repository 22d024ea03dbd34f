"""`segan_pl predict`: a segmentation file for every case of a folder, from checkpoints alone."""

from __future__ import annotations

import json
from dataclasses import fields

from segan_pl.cli.commands.options import PlaceOptions, parse
from segan_pl.cli.predict_options import PredictOptions
from segan_pl.errors import UsageError

DESCRIPTION = "Segment every case of a data set on its own grid; masks are not looked at."
HINTS = {
    "data.missing": "--missing refuse or zero says what becomes of a case that lacks a modality",
    "data.native_labels": "masks are not looked at; --native_labels says what the written labels mean",
}
"""Options of fit that mean something else here."""


def main(arguments: list[str]) -> int:
    """Predict every case; 1 when one was refused."""
    out: list[str] = []
    number = 0
    while number < len(arguments):
        flag = arguments[number]
        number += 1
        name, equals, value = flag.partition("=")
        if name not in ("--ckpt_path", "--postprocess", "--weights", "--mirror"):
            out.append(flag)
            continue
        if any(given.partition("=")[0] == name for given in out):
            raise UsageError(f"{name} is given twice; name all values after one, e.g. {name} A B")
        values = [value] if equals else []
        while number < len(arguments) and not arguments[number].startswith("-") and not equals:
            values.append(arguments[number])
            number += 1
        whole = len(values) == 1 and values[0].startswith("[")
        out.append(f"{name}={values[0] if whole else json.dumps([_number(v) for v in values])}")
    data, settings = parse(
        out, DESCRIPTION, lambda parser: parser.add_class_arguments(PredictOptions), PlaceOptions, hints=HINTS
    )
    # this loads PyTorch, which --help and a wrong option need not wait for
    from segan_pl.cli.predict_cases import predict_all

    return predict_all(PredictOptions(**{one.name: settings[one.name] for one in fields(PredictOptions)}), data)


def _number(text: str) -> float | int | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
