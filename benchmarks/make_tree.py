"""Write a generated tree of many small volumes in a data set's own naming: to time check, split, prepare and fit on.

    python benchmarks/make_tree.py --layout brats2015 --cases 1000 --shape 16 32 32 OUT

Every case has another brain and another tumour. 2015's tree has several scans a patient and ten names in both grades,
2019's its sites, several of them with 1 to 10 cases in 335. Of the data sets of tissues (iseg, mrbrains13, mrbrains18,
ibsr18) --unlabelled N adds N subjects without labels. Then the tree is searched, and the time said.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from segan_pl.data.layouts import find_data_set
from segan_pl.data.synthetic.healthy import HEALTHY_FORMS, make_healthy_cohort
from tests.generators.trees import FORMS, write_cohort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the data set's folder; must not exist")
    parser.add_argument("--layout", choices=sorted({*FORMS, *HEALTHY_FORMS}), default="brats2019")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 32, 32), metavar=("D", "H", "W"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-masks", action="store_true", help="as in a validation or test set")
    parser.add_argument("--unlabelled", type=int, default=0, help="of tissues: so many more without labels")
    options = parser.parse_args()
    healthy = options.layout in HEALTHY_FORMS
    if (options.unlabelled and not healthy) or (options.no_masks and healthy):
        parser.error("--unlabelled is for data sets of tissues, --no-masks for the others")
    if options.out.exists():
        parser.error(f"{options.out} exists; give a folder that does not, or remove it")
    start = time.perf_counter()
    drawn = {"shape": tuple(options.shape), "seed": options.seed}
    if healthy:
        numbers = {"subjects": options.cases, "unlabelled": options.unlabelled}
        make_healthy_cohort(options.out, form=options.layout, **numbers, **drawn)
    else:
        write_cohort(options.out, layout=options.layout, cases=options.cases, masks=not options.no_masks, **drawn)
    written = time.perf_counter()
    cases = find_data_set(options.out if not options.no_masks else _test_part(options.out)).cases
    found = time.perf_counter()
    files = [path for path in options.out.rglob("*") if path.is_file()]
    print(f"{len(cases)} cases of {len({case.patient for case in cases})} patients in {len(files)} files")
    print(f"{sum(path.stat().st_size for path in files) / 2**20:.0f} MiB written in {written - start:.1f} s")
    print(f"found in {found - written:.3f} s")


def _test_part(root: Path) -> Path:
    """imagesTs, where the form has it."""
    return root / "imagesTs" if (root / "imagesTs").is_dir() else root


if __name__ == "__main__":
    main()
