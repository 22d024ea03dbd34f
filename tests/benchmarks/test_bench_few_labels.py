"""Seconds a step of the systems for few labels: what is timed, and which seconds a whole run is taken from."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

from torch import nn

import benchmarks

FOLDER = Path(next(iter(benchmarks.__path__)))


def test_a_system_alone_is_timed_next_to_the_supervised_one_and_extrapolated_by_its_own_seconds(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))  # where the script's own folder is when it is run
    from benchmarks import bench_few_labels

    passed = {"now": 0.0}
    seconds = {"supervised_unet3d": 1.0, "gt_gan": 7.0}

    def made(args, system):
        def step(batch):
            passed["now"] += seconds[system] * len(batch.image) / args.patches

        return {"segmentor": nn.Identity()}, step

    monkeypatch.setattr(bench_few_labels, "networks_and_step", made)
    monkeypatch.setattr(bench_few_labels, "time", SimpleNamespace(process_time=lambda: passed["now"]))
    options = ["--systems", "gt_gan", "--patches", "2", "--rounds", "1", "--volume", "32", "32", "32"]
    monkeypatch.setattr(sys, "argv", ["bench_few_labels.py", *options])
    bench_few_labels.main()
    said = capsys.readouterr().out
    steps = dict(re.findall(r"^(\S.*?) +([\d.]+) CPU s a step \(", said, re.MULTILINE))
    assert steps == {"supervised_unet3d": "0.50", "supervised, all labelled": "1.00", "gt_gan": "7.00"}
    whole = re.findall(r"^(\S+) +(\d+) labelled patches: (\d+) CPU s a step", said, re.MULTILINE)
    expected = {"supervised_unet3d": 0.5, "gt_gan": 7.0}
    assert {name: float(taken) for name, _, taken in whole} == {
        name: float(f"{expected[name] * 2 * int(labelled) / 2:.0f}") for name, labelled, _ in whole
    }
    assert len(whole) == 2
