"""The golden runs: seeded short trainings whose losses, scores and weights equal those of a base commit to the bit.

    python -m tests.golden [--only NAME ...] [--base-only]

The base commit's code runs here too, on this machine and with these libraries, because floating-point results of two
processors or two releases of PyTorch differ. It runs once; `base.py` says where its results are kept and what makes
them out of date. A change that must not move a number is compared with it; a rename is written down in `runs.py`
(command lines) and `names.py` (names of metrics and weights), and a new order of random draws in `known_changes.py`.
"""
