"""The decode-once store and its command: what is in it, when it is built again, and that no accident spoils it."""

import os
import shutil
import signal
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
from photo_files import faces, partition, saved

from srlib.commands import main
from srlib.data import build, open_store
from srlib.data.decode import cut
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


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def stores(runs):
    return sorted(path for path in (runs / "stores").iterdir() if path.is_dir())


def test_a_store_holds_each_photo_once_and_is_built_again_where_it_is_damaged(photos, runs, monkeypatch):
    store = open_store(photos, runs)
    assert store.images.shape == (100, 3, 176, 176)
    assert isinstance(store.images, np.memmap)
    for row in (0, 31, 32, 99):
        assert (store.images[row] == cut((photos / store.names[row]).read_bytes(), "folder", "center")[""]).all()
    rows = np.concatenate([store.rows(split) for split in ("train", "val", "test")])
    assert rows.tolist() == list(range(100)), "the rows of a split lie together"
    assert store.names != sorted(store.names) == sorted(path.name for path in photos.iterdir())
    assert store.tensor("train", limit=3).shape == (3, 3, 176, 176)
    with pytest.raises(ValueError, match="unknown split 'dev': choose from train, val, test"):
        store.tensor("dev")
    assert (np.load(stores(runs)[0] / "images.npy") == store.images).all(), "the file is plain .npy"
    before, fingerprint = store.images.tobytes(), store.fingerprint
    for damaged in ("images.npy", "store.json"):
        os.truncate(stores(runs)[0] / damaged, 1000)
        assert open_store(photos, runs).images.tobytes() == before
    monkeypatch.setattr(build, "build_store", lambda *_: pytest.fail("built again"))
    assert open_store(photos, runs).fingerprint == fingerprint


def test_a_changed_folder_has_another_fingerprint_and_its_old_store_goes(photos, runs, tmp_path, capsys):
    first = open_store(photos, runs).fingerprint
    copy = shutil.copytree(photos, tmp_path / "elsewhere" / "photos", copy_function=shutil.copyfile)
    assert open_store(copy, runs).fingerprint == first, "it knows contents and not places"
    (photos / "000007.jpg").write_bytes((photos / "000007.jpg").read_bytes() + b"!")
    changed = open_store(photos, runs).fingerprint
    assert "the folder has changed since" in capsys.readouterr().out
    (photos / "000007.jpg").rename(photos / "7.jpg")
    assert len({first, changed, open_store(photos, runs).fingerprint}) == 3
    generate(photos, 103)
    assert len(open_store(photos, runs)) == 104
    assert len(stores(runs)) == 2, "the store of a folder of the same name elsewhere stays"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process alone")
def test_ctrl_c_is_one_line_and_what_it_leaves_is_not_used_for_a_changed_folder(photos, runs, monkeypatch, capsys):
    def stopping(data, kind, crop):
        if data.endswith(b"\xff\xd970"):
            os.kill(os.getpid(), signal.SIGINT)
        return cut(data, kind, crop)

    with monkeypatch.context() as patch:
        patch.setattr(build, "cut", stopping)
        assert main(["cache", "--data", str(photos), "--runs", str(runs)]) == 130
    out, err = capsys.readouterr()
    assert "the same command goes on from here" in out
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    other = shutil.copytree(photos, photos.parent / "elsewhere" / "photos", copy_function=shutil.copyfile)
    assert len(open_store(other, runs)) == 100
    assert len(stores(runs)) == 2, "what was left for another folder of the same name stays"
    shutil.rmtree(stores(runs)[0 if stores(runs)[1].suffix else 1])
    generate(photos, 101)
    assert len(open_store(photos, runs)) == 101
    assert "going on after " not in capsys.readouterr().out
    assert len(stores(runs)) == 1, "what was left for an older state of the folder is removed"


def test_a_full_disk_is_told_before_the_work(photos, runs, monkeypatch):
    monkeypatch.setattr(build, "cut", Mock(side_effect=AssertionError("decoded")))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5 * 10**6))
        with pytest.raises(DataError, match=r"needs 76 MB in .*stores, where 5 MB are free.*--runs"):
            open_store(photos, runs)
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=r"stores: No space left on device; .* the next try goes on from there"):
        open_store(photos, runs)


# Imports once, since that takes seconds, and builds in children that it forks.
FORKS = """
import glob, os, random, signal, sys, time
import numpy as np
from srlib.data import open_store
def start():
    if child := os.fork():
        return child
    os.write(1, b"%d\\n" % len(open_store(*sys.argv[1:])))  # at once, whatever the other one writes
    os._exit(0)
def done():
    try:
        return int(np.load(glob.glob(sys.argv[2] + "/stores/*.partial/photos.npy")[0])["done"].sum())
    except (EOFError, IndexError, OSError, ValueError):
        return 0
"""
KILLS = """
for _ in range(5):
    aim = done() + random.randrange(1, 150)  # by photos and not by seconds: machines differ
    child = start()
    while done() < aim and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
start(), os.wait()
"""


def forked(script, *args):
    command = [sys.executable, "-u", "-c", FORKS + script, *map(str, args)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_at_random_moments_the_store_is_the_same(tmp_path, runs):
    photos = generate(tmp_path / "photos", 1500)
    (photos / "bad.jpg").write_bytes(b"")
    open_store(photos, whole := tmp_path / "whole", "tiles")
    assert "going on after " in forked(KILLS, photos, runs, "tiles"), "no kill was in the middle of a build"
    one, other = ({path.name: path.read_bytes() for path in stores(at)[0].iterdir()} for at in (runs, whole))
    assert one == other


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_two_processes_at_once_build_one_store(tmp_path, runs):
    output = forked("start(), start(), os.wait(), os.wait()", generate(tmp_path / "photos", 1500), runs)
    assert output.splitlines().count("1500") == 2
    assert output.count("decoded 1,500 photos") == 1
    assert output.count("another process is building photos-center: waiting for it") == 1
    assert len(stores(runs)) == 1


def test_each_source_has_its_crops(tmp_path, runs, capsys):
    partition(faces(tmp_path))
    for crop in ("center", "lecture"):
        assert main(["cache", "--data", str(tmp_path), "--runs", str(runs), "--crop", crop]) == 0
        assert f"({crop}): train 2 of 3, val 1 of 1, test 0 of 1" in capsys.readouterr().out
    assert len(stores(runs)) == 2
    with pytest.raises(UsageError, match="'tiles' is not for CelebA: choose center or lecture"):
        open_store(tmp_path, runs, "tiles")
    for data in (saved(tmp_path / "other" / "a.png").parent, "sample"):
        with pytest.raises(UsageError, match="'lecture' is not for photos other than CelebA's: choose center or"):
            open_store(data, runs, "lecture")
