"""The decode-once store: what is in it and what is left out, that no accident spoils it."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
from photo_files import faces, partition, saved

from srlib.commands import main
from srlib.data import build, open_store
from srlib.data.decode import cut
from srlib.data.find import find_source
from srlib.errors import DataError, UsageError


def generate(folder, count):
    """``count`` different JPEGs, quickly: one picture, with a number after its end where decoders stop reading."""
    data = saved(folder / "000000.jpg", size=(19, 20), repeat=10).read_bytes()
    for i in range(count):
        (folder / f"{i:06d}.jpg").write_bytes(data + b"%d" % i)
    return folder


@pytest.fixture
def photos(tmp_path):
    return generate(tmp_path / "photos", 100)


def stores(runs):
    return sorted(path for path in (runs / "stores").iterdir() if path.is_dir())


def cache(photos, runs, crop="center"):
    """The words of the command."""
    return ["cache", "--data", str(photos), "--runs", str(runs), "--crop", crop]


def test_a_store_holds_each_photo_once_and_is_built_again_where_it_is_damaged(photos, tmp_path, monkeypatch):
    store = open_store(photos, tmp_path)
    assert store.images.shape == (100, 3, 176, 176)
    for row in (0, 31, 32, 99):
        assert (store.images[row] == cut((photos / store.names[row]).read_bytes(), "folder", "center")[""]).all()
    rows = np.concatenate([store.rows(split) for split in ("train", "val", "test")])
    assert rows.tolist() == list(range(100)), "the rows of a split lie together"
    assert store.names != sorted(store.names) == sorted(path.name for path in photos.iterdir())
    before = store.images.tobytes()
    for damaged, size in (("images.npy", 1000), ("images.npy", 0), ("store.json", 1000)):
        os.truncate(stores(tmp_path)[0] / damaged, size)
        assert open_store(photos, tmp_path).images.tobytes() == before
    monkeypatch.setattr(build, "build_store", lambda *_: pytest.fail("built again"))
    assert open_store(photos, tmp_path).fingerprint == store.fingerprint


def test_a_changed_folder_has_another_fingerprint_and_its_old_store_goes(photos, tmp_path, capsys):
    first = open_store(photos, tmp_path).fingerprint
    copy = shutil.copytree(photos, tmp_path / "elsewhere" / "photos", copy_function=shutil.copyfile)
    assert open_store(copy, tmp_path).fingerprint == first, "it knows contents and not places"
    (photos / "000007.jpg").write_bytes((photos / "000007.jpg").read_bytes() + b"!")
    changed = open_store(photos, tmp_path).fingerprint
    assert "the folder has changed since" in capsys.readouterr().out
    (photos / "000007.jpg").rename(photos / "7.jpg")
    assert len({first, changed, open_store(photos, tmp_path).fingerprint}) == 3
    assert len(stores(tmp_path)) == 2, "the store of a folder of the same name elsewhere stays"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process alone")
def test_ctrl_c_is_one_line_and_what_it_leaves_is_not_for_a_changed_folder(photos, tmp_path, monkeypatch, capsys):
    def stopping(data, kind, crop):
        if data.endswith(b"\xff\xd970"):
            os.kill(os.getpid(), signal.SIGINT)
        return cut(data, kind, crop)

    with monkeypatch.context() as patch:
        patch.setattr(build, "cut", stopping)
        assert main(cache(photos, tmp_path)) == 130
    out, err = capsys.readouterr()
    assert "the same command goes on from here" in out
    assert err.endswith("interrupted\n")
    generate(photos, 101)
    assert len(open_store(photos, tmp_path)) == 101
    assert "going on after " not in capsys.readouterr().out
    assert len(stores(tmp_path)) == 1, "what was left for an older state of the folder is removed"


def test_a_full_disk_is_told_before_the_work(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "cut", Mock(side_effect=AssertionError("decoded")))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5 * 10**6))
        with pytest.raises(DataError, match=r"needs 76 MB in .*stores, where 5 MB are free.*--runs"):
            open_store(photos, tmp_path)
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=r"stores: No space left on device; .* the next try goes on from there"):
        open_store(photos, tmp_path)


def test_killed_at_random_moments_the_store_is_the_same(tmp_path, capfd):
    photos, whole = generate(tmp_path / "photos", 1500), tmp_path / "whole"
    (photos / "bad.jpg").write_bytes(b"")
    open_store(photos, whole, "tiles")

    def done():
        with suppress(EOFError, OSError, StopIteration, ValueError):
            return int(np.load(next(tmp_path.glob("stores/*.partial/photos.npy")))["done"].sum())
        return 0

    for _ in range(5):
        aim = done() + random.randrange(1, 150)  # by photos and not by seconds: machines differ
        command = [sys.executable, "-m", "srlib", *cache(photos, tmp_path, "tiles")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            while done() < aim and child.poll() is None:
                time.sleep(0.001)
            child.kill()
    open_store(photos, tmp_path, "tiles")
    assert "going on after " in capfd.readouterr().out, "no kill was in the middle of a build"
    one, other = ({path.name: path.read_bytes() for path in stores(at)[0].iterdir()} for at in (tmp_path, whole))
    assert one == other


@pytest.mark.timeout(120)
def test_two_processes_at_once_build_one_store(photos, tmp_path, monkeypatch):
    build_store, others = build.build_store, []

    def build_while_another_waits(*args):
        command = [sys.executable, "-m", "srlib", *cache(photos, tmp_path)]
        others.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert any("another process is building photos-center" in line for line in others[0].stdout)
        build_store(*args)

    monkeypatch.setattr(build, "build_store", build_while_another_waits)
    assert len(open_store(photos, tmp_path)) == 100
    told, _ = others[0].communicate(timeout=60)
    assert "folder, 100 photos of 176x176 (center)" in told
    assert "decoded" not in told
    assert len(stores(tmp_path)) == 1


def test_each_source_has_its_crops(tmp_path, capsys):
    photos = partition(faces(tmp_path / "photos")).parent
    for crop in ("center", "lecture"):
        assert main(cache(photos, tmp_path, crop)) == 0
        assert f"({crop}): train 2 of 3, val 1 of 1, test 0 of 1" in capsys.readouterr().out
    assert len(stores(tmp_path)) == 2
    with pytest.raises(UsageError, match="unknown celeba crop 'tiles': choose from center, lecture"):
        open_store(photos, tmp_path, "tiles")
    for data in (saved(tmp_path / "other" / "a.png").parent, "sample"):
        with pytest.raises(UsageError, match=r"unknown (folder|sample) crop 'lecture': choose from center, tiles"):
            open_store(data, tmp_path, "lecture")


def test_the_command_lists_what_is_left_out_with_the_reason_and_refuses_too_many_bad_ones(tmp_path, capsys):
    photos = generate(tmp_path / "photos", 10)

    def told(max_bad, data=photos, status=0):
        assert main([*cache(data, tmp_path), "--max-bad", str(max_bad)]) == status
        return "".join(capsys.readouterr())

    assert "--max-bad is a percentage from 0 to 100, got 101" in told(101, status=2)
    told(50, "sample", status=2)
    (photos / "notes.jpg").write_text("no picture")
    wanted = r"(?s)1 of 11 photos are bad, more than 1 %:\n  notes.jpg: not an image.*--max-bad 10$"
    assert re.search(wanted, told(1, status=1))
    told(10)
    told(1)  # what was accepted once stays accepted
    (photos / "cut.jpg").write_bytes((photos / "000000.jpg").read_bytes()[:2000])
    (photos / "notes.txt").write_text("hello")
    generate(photos / "later", 1)  # as the first one
    saved(photos / "small.png", size=(100, 300))
    saved(photos / "really_a_png.jpg", size=(240, 200), format="PNG")
    saved(photos / "no_extension", size=(300, 200), format="JPEG")
    for _ in range(2):  # the second time from the store
        lines = told(50)
        for part in ("16 to read", "no photos: 1 .txt", "notes.jpg: not an image", "folder, 12 photos of 176x176"):
            assert part in lines
    store = open_store(photos, tmp_path, max_bad=50)
    used = {store.names[row] for split in store.counts() for row in store.rows(split)}
    assert used == {*(f"{i:06d}.jpg" for i in range(10)), "really_a_png.jpg", "no_extension"}
    assert set(store.bad) == {"notes.jpg", "cut.jpg"}
    small = "100x300, the shorter side is below 176"
    assert store.skipped == {"later/000000.jpg": "the same file as another photo", "small.png": small}
    for i in range(30):
        (photos / f"bad{i:02d}.jpg").write_bytes(b"")
    assert "and 12 more" in told(90)
    (whole,) = (tmp_path / "stores").glob("*unreadable.txt")
    assert len(whole.read_text().splitlines()) == 32


def test_files_that_change_or_go_meanwhile(photos, tmp_path):
    source = find_source(photos)
    saved(photos / "000003.jpg", size=(300, 300))
    (photos / "000005.jpg").unlink()
    store = build.open_source(source, tmp_path, "center", max_bad=50)
    assert store.bad["000003.jpg"] == "changed while the store was being built"
    assert store.bad["000005.jpg"] == "cannot be read: No such file or directory"
    assert not open_store(photos, tmp_path).bad, "the next look at the folder finds another folder"


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="such files are Linux's")
def test_odd_files_and_names(photos, tmp_path, capsys):
    opened = partial(open_store, photos, tmp_path, max_bad=50)
    before = opened()
    (photos / "000003.jpg").chmod(0o400)
    after = opened()
    assert after.images.filename != before.images.filename, "a permission that was granted is noticed"
    assert after.fingerprint == before.fingerprint
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    os.mkfifo(photos / "pipe.jpg")
    assert opened().bad == {"gone.jpg": "a link to nothing", "pipe.jpg": "neither a file nor a folder"}
    name = os.fsdecode(b"caf\xe9")  # no UTF-8
    saved(photos / f"{name}.png", size=(222, 200))
    (photos / f"{name}-bad.png").write_bytes(b"")
    store = opened()
    assert f"{name}.png" in store.names
    assert "caf\\xe9-bad.png: empty file" in capsys.readouterr().out
    assert opened().names == store.names
