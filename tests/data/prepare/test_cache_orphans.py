"""Only what nothing can use again is removed: no entry whose files are as they were, none whose disk may come back."""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from segan_pl.data.case import Case
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.cache_building import alone
from segan_pl.data.prepare.cache_orphans import Found, lines, remove, survey
from segan_pl.data.prepare.preparation import Preparation

WHOLE, OTHER = Preparation(crop=None), Preparation(crop=(2, 4, 4))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where make_case writes."""
    return tmp_path / "sources"


def folder(case: Case) -> Path:
    return case.images["t1"].parent


def verdicts(found: list[Found]) -> dict[str, str]:
    return {one.place.name.rpartition("-")[0]: one.verdict for one in found}


def orphans(found: list[Found]) -> list[Found]:
    return [one for one in found if one.verdict == "orphan"]


def test_an_empty_cache_holds_nothing(tmp_path, root):
    assert survey(tmp_path / "nowhere", root) == []


def test_an_entry_is_kept_while_its_files_are_as_they_were_for_whomever(make_case, cache, root, tmp_path):
    case = make_case()
    cache.build(case)
    Cache(cache.directory, OTHER).build(case)
    (tmp_path / "another data set").mkdir()
    for place in (root, tmp_path / "another data set"):
        assert [one.verdict for one in survey(cache.directory, place)] == ["kept", "kept"]


def test_an_entry_of_another_tolerance_of_origins_is_no_orphan(make_case, cache, root):
    cache.build(replace(make_case(), origin_tolerance_mm=0.5))
    assert [one.verdict for one in survey(cache.directory, root)] == ["kept"]


def test_changed_and_deleted_files_make_orphans(make_case, cache, root):
    kept, changed, deleted, emptied = (make_case(name) for name in ("kept", "changed", "deleted", "emptied"))
    for case in (kept, changed, deleted, emptied):
        cache.build(case)
    os.utime(changed.images["t1"], ns=(1, 1))
    shutil.rmtree(folder(deleted))
    emptied.images["flair"].unlink()
    found = survey(cache.directory, root)
    assert verdicts(found) == {"kept": "kept", "changed": "orphan", "deleted": "orphan", "emptied": "orphan"}
    removed, refused = remove(orphans(found), root)
    assert ([one.place.name.rpartition("-")[0] for one in removed], refused) == (["changed", "deleted", "emptied"], [])
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([".building", cache.path(kept).name])
    assert list(cache.building.iterdir()) == []


def test_files_below_another_folder_are_no_ones_to_judge(make_case, cache, tmp_path):
    case, _ = make_case(), make_case("another")
    cache.build(case)
    shutil.rmtree(folder(case))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    assert [one.verdict for one in survey(cache.directory, tmp_path / "data")] == ["away"]
    assert [one.verdict for one in survey(cache.directory, tmp_path / "sources")] == ["orphan"]


@pytest.mark.parametrize("unmounted", ["an empty folder", "no folder"])
def test_a_disk_that_is_not_mounted_makes_no_orphans(make_case, cache, root, unmounted):
    cases = [make_case("a"), make_case("b")]
    for case in cases:
        cache.build(case)
    shutil.rmtree(root)
    if unmounted == "an empty folder":
        root.mkdir()
    found = survey(cache.directory, root)
    assert verdicts(found) == {"a": "away", "b": "away"}
    told = "\n".join(lines(found, cache.folder))
    assert "out of reach: 2 entries" in told
    assert str(cases[0].images["t1"]) in told


def test_a_part_of_a_data_set_on_a_disk_that_is_not_mounted_makes_no_orphans(make_case, cache, root):
    near, far = make_case("near"), make_case("far")
    (root / "HGG").mkdir()
    place = folder(far).rename(root / "HGG" / "far")
    far = replace(far, images={part: place / path.name for part, path in far.images.items()}, mask=None)
    for case in (near, far):
        cache.build(case)
    shutil.rmtree(root / "HGG")
    assert sorted(one.verdict for one in survey(cache.directory, root)) == ["away", "kept"]


@pytest.mark.parametrize("damage", ["format 1", "no JSON", "size", "array gone"])
def test_damaged_entries_and_those_of_other_formats_are_orphans(make_case, cache, root, damage):
    place = cache.build(make_case())
    if damage == "format 1":
        record = json.loads((place / "entry.json").read_text())
        (place / "entry.json").write_text(json.dumps({**record, "format": 1}))
    elif damage == "no JSON":
        (place / "entry.json").write_bytes(b"\xff")
    elif damage == "size":
        os.truncate(place / "image.npy", 1)
    else:
        (place / "image.npy").unlink()
    (found,) = survey(cache.directory, root)
    assert found.verdict == "orphan"
    assert {"format 1": "format 1", "no JSON": "no JSON", "size": "1 bytes", "array gone": "missing"}[
        damage
    ] in found.why


def test_what_a_dead_builder_left_is_an_orphan_and_what_a_running_one_builds_is_not(make_case, cache, root):
    cache.build(make_case())
    dead = cache.building / f"{socket.gethostname()}+{2**22 + 1}+abcd"
    running = cache.building / f"{socket.gethostname()}+{os.getppid()}+abcd"
    for place in (dead, running):
        place.mkdir()
        (place / "image.npy").write_bytes(bytes(100))
    found = orphans(survey(cache.directory, root))
    assert [(one.place, one.bytes) for one in found] == [(dead, 100)]
    remove(found, root)
    assert list(cache.building.iterdir()) == [running]


def test_what_came_into_use_since_it_was_listed_stays(make_case, cache, root):
    case = make_case()
    place = cache.build(case)
    os.truncate(place / "image.npy", 1)
    found = orphans(survey(cache.directory, root))
    cache.build(case)
    removed, refused = remove(found, root)
    assert (removed, refused) == ([], [f"{place}: is in use again"])
    assert cache.holds(case)


def test_an_entry_that_is_being_built_is_not_removed(make_case, cache, root):
    place = cache.build(make_case())
    os.truncate(place / "image.npy", 1)
    found = orphans(survey(cache.directory, root))
    with alone(cache.building, place.name):
        assert remove(found, root) == ([], [f"{place}: is being built again"])
    assert remove(found, root) == (found, [])


def test_other_things_in_the_folder_are_left_alone(make_case, cache, root):
    cache.build(make_case())
    for name in ("notes-of-mine", "0123456789ab/my-folder", "0123456789ab/file-0123456789abcdef0"):
        (cache.directory / name).mkdir(parents=True)
    assert len(survey(cache.directory, root)) == 1


def test_a_folder_that_only_looks_like_an_entry_is_never_removed(make_case, cache, root):
    cache.build(make_case())
    for name in ("checkpoints1/run-1700000000000000", "0123456789ab/run-1700000000000000"):
        folder = cache.directory / name
        folder.mkdir(parents=True)
        (folder / "model.ckpt").write_text("weeks of training")
    assert len(survey(cache.directory, root)) == 1


def test_sizes_and_other_preparations_are_listed(make_case, cache, root):
    case, other = make_case(), Cache(cache.directory, OTHER)
    cache.build(case)
    place = other.build(case)
    found = survey(cache.directory, root)
    assert {one.place: one.bytes for one in found}[place] == sum(path.stat().st_size for path in place.iterdir())
    told = lines(found, cache.folder)
    assert told[0].startswith("kept: 1 entries (0.0 MB) of this preparation")
    assert told[1].startswith(f"kept: 1 entries (0.0 MB) of another preparation, {OTHER.digest()}: ")
    assert '"crop": [2, 4, 4]' in told[1]
