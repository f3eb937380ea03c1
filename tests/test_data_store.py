"""The decode-once store: what is in it, when it is built again, and that no accident spoils it."""

import errno
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.data import build as building
from srlib.data import growth, open_store
from srlib.data.decode import RULES
from srlib.data.lock import locked
from srlib.errors import DataError, UsageError

SHARED = Path(__file__).parents[2] / "shared" / "data"


def generate(folder: Path, count: int) -> Path:
    """``count`` different JPEGs, quickly: one picture, with a number after its end where decoders stop reading."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:200, 0:190]
    buffer = io.BytesIO()
    Image.fromarray(np.stack([x, y, (x * y) % 251], axis=-1).astype(np.uint8)).save(buffer, "JPEG")
    for i in range(count):
        (folder / f"{i:06d}.jpg").write_bytes(buffer.getvalue() + b"%d" % i)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return generate(tmp_path / "photos", 100)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def stores(runs: Path) -> list[Path]:
    return sorted(path for path in (runs / "stores").iterdir() if path.is_dir())


def contents(runs: Path) -> dict[str, bytes]:
    """The files of the only store."""
    (store,) = stores(runs)
    return {path.name: path.read_bytes() for path in store.iterdir()}


def test_a_store_holds_the_photos_in_order(photos: Path, runs: Path) -> None:
    store = open_store(photos, runs)
    assert store.names == sorted(path.name for path in photos.iterdir())
    assert store.images.shape == (100, 3, 176, 176)
    assert isinstance(store.images, np.memmap)
    assert not store.images.flags.writeable
    rule = RULES["folder", "center"]
    for row in (0, 31, 32, 99):
        assert (store.images[row] == rule((photos / store.names[row]).read_bytes())).all()
    assert sum(store.counts().values()) == 100
    rows = np.concatenate([store.rows(split) for split in ("train", "val", "test")])
    assert sorted(rows.tolist()) == list(range(100))
    assert store.tensor("train", limit=3).shape == (3, 3, 176, 176)
    with pytest.raises(ValueError, match="unknown split 'dev': choose from train, val, test"):
        store.tensor("dev")


def test_the_file_is_plain_npy(photos: Path, runs: Path) -> None:
    store = open_store(photos, runs)
    assert (np.load(stores(runs)[0] / "images.npy") == store.images).all()
    assert {path.name for path in stores(runs)[0].iterdir()} == {"images.npy", "store.json"}


def test_a_whole_store_is_opened_and_not_built(
    photos: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    first = open_store(photos, runs)
    capsys.readouterr()
    monkeypatch.setattr("srlib.data.opening.build", lambda *_: pytest.fail("built again"))
    second = open_store(photos, runs)
    assert second.fingerprint == first.fingerprint
    assert capsys.readouterr().out == ""


def test_the_fingerprint_knows_contents_and_not_places(photos: Path, runs: Path, tmp_path: Path) -> None:
    first = open_store(photos, runs).fingerprint
    copy = shutil.copytree(photos, tmp_path / "elsewhere" / "copy", copy_function=shutil.copyfile)
    assert open_store(copy, runs).fingerprint == first
    (copy / "000007.jpg").write_bytes((copy / "000007.jpg").read_bytes() + b"!")
    assert open_store(copy, runs).fingerprint != first
    (photos / "000007.jpg").rename(photos / "7.jpg")
    assert open_store(photos, runs).fingerprint != first


def test_a_changed_folder_is_decoded_again_and_its_old_store_goes(
    photos: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    namesake = generate(tmp_path / "other" / "photos", 5)
    open_store(namesake, runs)
    open_store(photos, runs)
    generate(photos, 103)
    store = open_store(photos, runs)
    assert len(store) == 103
    assert "the folder has changed since" in capsys.readouterr().out
    assert len(stores(runs)) == 2, "the store of a folder of the same name elsewhere stays"
    assert len(open_store(namesake, runs)) == 5


def test_a_damaged_store_is_built_again(photos: Path, runs: Path) -> None:
    before = open_store(photos, runs).images.tobytes()
    (images,) = (runs / "stores").glob("*/images.npy")
    os.truncate(images, 1000)
    assert open_store(photos, runs).images.tobytes() == before


def test_crops_are_known_and_belong_to_celeba(photos: Path, runs: Path) -> None:
    with pytest.raises(UsageError, match="unknown crop 'middle': choose from center, lecture"):
        open_store(photos, runs, "middle")
    with pytest.raises(UsageError, match="the crop 'lecture' is for CelebA"):
        open_store(photos, runs, "lecture")
    with pytest.raises(UsageError, match="the crop 'lecture' is for CelebA"):
        open_store("sample", runs, "lecture")


@pytest.mark.parametrize("workers", [1, 5])
def test_the_number_of_threads_changes_nothing(photos: Path, tmp_path: Path, workers: int) -> None:
    from srlib.data.folders import find_source

    for name, count in (("one", 1), ("more", workers)):
        building.build(find_source(photos), "center", tmp_path / name / "stores" / "x", 1.0, workers=count)
    assert contents(tmp_path / "one") == contents(tmp_path / "more")


# --- accidents ------------------------------------------------------------------------------------------


def stop_at(number: int) -> Callable[[bytes], np.ndarray]:
    """A rule by which the build is interrupted at one of the generated photos."""
    rule = RULES["folder", "center"]

    def stopping(data: bytes) -> np.ndarray:
        if data.endswith(b"\xff\xd9%d" % number):
            raise KeyboardInterrupt
        return rule(data)

    return stopping


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_build_goes_on(
    photos: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    open_store(photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setitem(RULES, ("folder", "center"), stop_at(70))
        with pytest.raises(KeyboardInterrupt):
            open_store(photos, runs)
    (partial,) = stores(runs)
    assert partial.name.endswith(".partial")
    capsys.readouterr()
    open_store(photos, runs)
    assert "going on after 64 of 100 photos" in capsys.readouterr().out
    assert contents(runs) == contents(tmp_path / "whole")


def test_a_build_left_for_an_older_state_of_the_folder_goes(
    photos: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(RULES, ("folder", "center"), stop_at(70))
        with pytest.raises(KeyboardInterrupt):
            open_store(photos, runs)
    generate(photos, 101)
    open_store(photos, runs)
    assert len(stores(runs)) == 1


@pytest.mark.parametrize("damage", ["torn line", "garbage", "lost rows", "no journal", "lost title"])
def test_what_a_crash_can_leave_is_repaired(
    photos: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    open_store(photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(building, "_write_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_store(photos, runs)
    (partial,) = stores(runs)
    journal, images = partial / "journal.jsonl", partial / "images.npy"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    if damage == "torn line":
        journal.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    elif damage == "garbage":
        journal.write_bytes(b"".join(lines[:3]) + bytes(100) + b"\n" + lines[3])
    elif damage == "lost rows":
        os.truncate(images, 128 + 50 * growth.ROW)
    elif damage == "no journal":
        journal.unlink()
    elif damage == "lost title":
        journal.write_bytes(b"".join(lines[1:]))
    open_store(photos, runs)
    assert contents(runs) == contents(tmp_path / "whole")


def test_a_full_disk_is_told_before_the_work(photos: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 5 * 10**6))
    monkeypatch.setitem(RULES, ("folder", "center"), lambda data: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"needs 76 MB in .*stores, where 5 MB are free.*--runs"):
        open_store(photos, runs)


def test_a_disk_that_fills_up_meanwhile(
    photos: Path, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = growth._write, []

    def full(file: object, data: memoryview) -> None:
        calls.append(1)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(growth, "_write", full)
        with pytest.raises(DataError, match="No space left on device; what has been decoded is kept"):
            open_store(photos, runs)
    open_store(photos, runs)
    open_store(photos, tmp_path / "whole")
    assert contents(runs) == contents(tmp_path / "whole")


def opener(photos: Path, runs: Path) -> subprocess.Popen:
    words = f"from srlib.data import open_store; print(len(open_store({str(photos)!r}, {str(runs)!r})))"
    return subprocess.Popen(
        [sys.executable, "-c", words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_killed_at_random_moments_the_store_is_the_same(tmp_path: Path) -> None:
    photos, runs = generate(tmp_path / "photos", 1500), tmp_path / "runs"
    open_store(photos, tmp_path / "whole")
    wanted = contents(tmp_path / "whole")
    chance = random.Random(0)
    for _ in range(3):
        process = opener(photos, runs)
        while process.poll() is None and not list(runs.glob("stores/*.partial")):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.4))
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.communicate()
    open_store(photos, runs)
    assert contents(runs) == wanted


def test_two_processes_at_once_build_one_store(tmp_path: Path) -> None:
    photos, runs = generate(tmp_path / "photos", 1500), tmp_path / "runs"
    outputs = [process.communicate()[0] for process in [opener(photos, runs), opener(photos, runs)]]
    assert [output.splitlines()[-1] for output in outputs] == ["1500", "1500"]
    assert sum("decoded 1,500 photos" in output for output in outputs) == 1
    assert len(stores(runs)) == 1


def test_a_lock_is_waited_for_and_released(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import threading

    order = []

    def second() -> None:
        with locked(tmp_path / "x.lock", "waiting"):
            order.append("second")

    with locked(tmp_path / "x.lock", "waiting"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert capsys.readouterr().out == "waiting\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_photos(tmp_path: Path) -> None:
    """With 50,000 photos, by hand: ``python benchmarks/memory.py``."""
    photos = generate(tmp_path / "photos", 3000)
    few = generate(tmp_path / "few", 300)
    words = """
import sys
from srlib.data import growth, open_store
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
open_store(sys.argv[1], sys.argv[3])
before = peak()
open_store(sys.argv[2], sys.argv[3])
print(before, peak())
"""
    command = [sys.executable, "-c", words, str(few), str(photos), str(tmp_path / "runs")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    before, after = map(float, output.split())
    assert after < 1024, f"{after:.0f} MiB"
    assert after - before < 60, "the 250 MiB of further rows must not be in memory together"


def test_celeba_counts_are_told(tmp_path: Path) -> None:
    if not (SHARED / "celeba").is_dir():
        pytest.skip("the shared photos of CelebA are not here")
    source = tmp_path / "part"
    (source / "img_align_celeba").mkdir(parents=True)
    shutil.copy(SHARED / "celeba" / "list_eval_partition.csv", source)
    for path in sorted((SHARED / "celeba" / "img_align_celeba").iterdir())[:40]:
        shutil.copy(path, source / "img_align_celeba")
    store = open_store(source, tmp_path / "runs")
    assert store.describe().startswith("celeba, 40 photos of 176x176 (center): train ")
    assert " of 162,770, val " in store.describe()
    assert store.describe().endswith("test 0 of 19,962")
    faces = open_store(source, tmp_path / "runs", "lecture")
    assert faces.fingerprint != store.fingerprint
    assert len(stores(tmp_path / "runs")) == 2, "a store for each crop"
