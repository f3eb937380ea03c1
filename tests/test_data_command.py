"""``python -m srlib cache``: what it prints, and its exit status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_data_sources import faces, partition
from test_data_store import generate

from srlib import cli


def test_it_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generate(tmp_path / "photos", 20)
    (tmp_path / "photos" / "notes.txt").write_text("hello")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    words = ["cache", "--data", str(tmp_path / "photos"), "--runs", str(tmp_path / "runs"), "--max-bad", "5"]
    for _ in range(2):  # the second time from the store
        assert cli.main(words) == 0
        out = capsys.readouterr().out
        assert "21 to read" in out
        assert "left alone, no photos: 1 .txt" in out
        assert "bad.jpg: empty file" in out
        assert "folder, 20 photos of 176x176 (center)" in out
        assert "1 unreadable" in out


def test_celeba_with_both_crops(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    faces(tmp_path / "img_align_celeba")
    partition(tmp_path, "csv")
    for crop in ("center", "lecture"):
        assert cli.main(["cache", "--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--crop", crop]) == 0
        expected = f"celeba, 3 photos of 176x176 ({crop}): train 2 of 3, val 1 of 1, test 0 of 1"
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "/no/such/folder"], "no folder /no/such/folder"),
        (["--data", "sample"], "the sample is cut in memory and needs no store"),
        (["--data", ".", "--max-bad", "101"], "--max-bad is a percentage from 0 to 100, got 101"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["cache", *words]) == 2
    assert message in capsys.readouterr().err


def test_failures_have_status_1(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (generate(tmp_path / "photos", 3) / "bad.jpg").write_bytes(b"")
    assert cli.main(["cache", "--data", str(tmp_path / "photos"), "--runs", str(tmp_path / "runs")]) == 1
    assert "1 of 4 photos are bad" in capsys.readouterr().err


def test_fetching_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.CelebA", fail)
    assert cli.main(["cache", "--data", str(tmp_path), "--fetch"]) == 1
    assert "no network" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one child alone")
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    generate(tmp_path / "photos", 3000)
    words = ["cache", "--data", str(tmp_path / "photos"), "--runs", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "srlib", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(
        f.stat().st_size > 10**6 for f in tmp_path.glob("runs/stores/*/*.npy")
    ):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "the same command goes on from here" in out
    assert "Traceback" not in err
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "going on after " in done.stdout
