"""What lies in the cache is compared with its checksums before anybody sees a voxel of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from segan_pl.data.case import CaseError
from segan_pl.data.prepare import cache_entry
from segan_pl.data.prepare.cache import Cache
from segan_pl.data.prepare.case import prepare
from segan_pl.data.prepare.cases import prepare_all
from segan_pl.data.prepare.preparation import Preparation

WHOLE = Preparation(crop=None)
TINY = (2, 2, 2)
FILES = ("image.npy", "label.npy", "native.npy", "entry.json")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", WHOLE)


def test_the_recorded_checksums_are_zlibs_of_the_whole_files(make_case, cache):
    entry = cache.entry(make_case(shape=(20, 90, 90)))  # larger than one chunk
    for name, file in entry.record["files"].items():
        content = (entry.place / name).read_bytes()
        assert file == {"bytes": len(content), "crc32": f"{zlib.crc32(content):08x}"}
    assert set(entry.record["files"]) == {"image.npy", "label.npy", "native.npy"}


def flipped(content: bytes, position: int) -> bytes:
    return bytes([*content[:position], content[position] ^ (1 << position % 8), *content[position + 1 :]])


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_byte_of_an_entry_is_believed(make_case, cache, name):
    case = make_case(shape=TINY)
    entry = cache.entry(case)
    content = (entry.place / name).read_bytes()
    believed = 0
    for position in range(len(content)):
        (entry.place / name).write_bytes(flipped(content, position))
        found = cache.find(case)
        assert found is None or found.record == entry.record, position
        believed += found is not None
    assert name == "entry.json" or believed == 0  # between the words of a sidecar a byte may change
    (entry.place / name).write_bytes(content)
    assert cache.holds(case)


@pytest.mark.parametrize("name", FILES)
def test_an_entry_with_a_flipped_byte_is_replaced(make_case, cache, name):
    case = make_case(shape=TINY)
    known, place = prepare(case, WHOLE), cache.build(case)
    content = (place / name).read_bytes()
    for position in range(0, len(content), 29):
        (place / name).write_bytes(flipped(content, position))
        opened = cache.open(case, ("t1", "flair"))
        np.testing.assert_array_equal(opened.image, known.image)
        np.testing.assert_array_equal(opened.label, known.label)
        assert (opened.geometry, opened.labels) == (known.geometry, tuple(known.labels))
        assert opened.outside == known.outside


@pytest.mark.parametrize("damage", ["truncated", "missing", "json", "format", "no sidecar", "empty folder", "a file"])
def test_a_damaged_entry_is_rebuilt(make_case, cache, damage):
    case = make_case()
    place = cache.build(case)
    sidecar = place / "entry.json"
    if damage == "truncated":
        os.truncate(place / "image.npy", 200)
    elif damage == "missing":
        (place / "label.npy").unlink()
    elif damage == "json":
        sidecar.write_text('{"format": 2')
    elif damage == "format":
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "format": 1}))
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        shutil.rmtree(place)
        place.mkdir() if damage == "empty folder" else place.touch()
    assert not cache.holds(case)
    assert not cache.lists(case)
    np.testing.assert_array_equal(cache.open(case, ("t1", "flair")).image, prepare(case, WHOLE).image)
    assert list(cache.building.iterdir()) == []


def test_an_entry_that_bears_another_cases_name_is_rebuilt(make_case, cache):
    one, other = make_case("one"), make_case("other")
    shutil.copytree(cache.build(one), cache.path(other))
    np.testing.assert_array_equal(cache.open(other, ("t1",)).image, prepare(other, WHOLE).image)


def test_what_was_wrong_is_told_when_a_damaged_entry_is_opened(make_case, cache, caplog):
    case = make_case()
    os.truncate(cache.build(case) / "image.npy", 200)
    with caplog.at_level(logging.WARNING):
        cache.open(case, ("t1",))
    told = "note: case: its cache entry was damaged (image.npy has 200 bytes, expected 2048) and is rebuilt"
    assert caplog.messages == [told]
    cache.open(case, ("t1",))
    assert len(caplog.messages) == 1


def test_preparing_again_finds_and_tells_damage(make_case, cache):
    cases = [make_case("a"), make_case("b")]
    prepare_all(cases, cache, progress=False)
    path = cache.path(cases[1]) / "label.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")
    report = prepare_all(cases, cache, progress=False)
    assert (report.used, report.built) == (("a", "b"), 1)
    assert len(report.notes) == 1
    assert report.notes[0].startswith("b: its cache entry was damaged (label.npy has checksum ")
    assert prepare_all(cases, cache, progress=False).notes == ()


def test_a_damaged_entry_whose_source_is_gone_is_one_clear_line(make_case, cache):
    case = make_case()
    os.truncate(cache.build(case) / "image.npy", 200)
    case.images["flair"].unlink()
    with pytest.raises(CaseError, match=r"^case: .*case_flair\.nii\.gz cannot be read \(No such file or directory\)"):
        cache.open(case, ("t1",))


def test_an_array_is_read_to_its_end_once_a_process(make_case, cache, monkeypatch):
    cases = [make_case("a"), make_case("b")]
    prepare_all(cases, cache, progress=False)
    monkeypatch.setattr(cache_entry, "_verified", set())
    read: list[str] = []
    really = cache_entry._checksum
    monkeypatch.setattr(cache_entry, "_checksum", lambda stream: read.append(stream.name) or really(stream))
    assert cache.verify(cases, threads=2) == [True, True]
    assert len(read) == 6
    for case in cases:
        cache.open(case, ("t1",))
    assert len(read) == 6
    os.utime(cache.path(cases[0]) / "image.npy", ns=(1, 1))  # perhaps another file now
    cache.open(cases[0], ("t1",))
    assert len(read) == 7


def test_a_changed_source_is_prepared_anew(make_case, cache):
    case, other = make_case(), make_case("other")
    before = np.array(cache.open(case, ("t1",)).image)
    case.images["t1"].write_bytes(other.images["t1"].read_bytes())
    after = cache.open(case, ("t1",)).image
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, prepare(case, WHOLE).image)


def test_a_source_that_changes_while_it_is_read_is_refused(make_case, cache, monkeypatch):
    case = make_case()

    def slowly(*arguments):
        os.utime(case.images["t1"], ns=(1, 1))
        return prepare(*arguments)

    monkeypatch.setattr("segan_pl.data.prepare.cache.prepare", slowly)
    with pytest.raises(CaseError, match="case: its files changed while they were read; start again when they rest"):
        cache.build(case)
    assert [path for path in cache.folder.iterdir() if path.name != ".building"] == []


def test_an_entry_that_is_damaged_as_soon_as_it_is_written_is_refused_in_the_end(make_case, cache, monkeypatch):
    monkeypatch.setattr(cache_entry, "_checksum", lambda stream: "never")
    with pytest.raises(CaseError, match="damaged again and again as soon as it is written; check the disk"):
        cache.open(make_case(), ("t1",))
