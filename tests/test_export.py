"""``export``: the ONNX file gives what PyTorch gives, at any size."""

import numpy as np
import pytest
import torch
from photo_files import save_checkpoint

from srlib.commands import main
from srlib.upscale import load_network


def test_the_exported_network_is_the_same_at_any_size(tmp_path, capsys):
    """A gray network, which is exported with the splitting and merging of channels around it."""
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -e .[export]")
    runtime = pytest.importorskip("onnxruntime")
    weights, path = save_checkpoint(tmp_path / "own.pt", "gray-gray"), tmp_path / "new" / "own.onnx"
    assert main(["export", str(weights), "--onnx", str(path)]) == 0
    assert "not clamped; residual gray-gray, " in capsys.readouterr().out
    assert main(["export", str(weights), "--onnx", str(path)]) == 2
    assert "own.onnx is there already: add --force" in capsys.readouterr().err
    session, network = runtime.InferenceSession(path), load_network(weights)[0]
    for shape in ((1, 3, 24, 32), (2, 3, 5, 61), (1, 3, 40, 1)):
        lr = torch.rand(shape)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(["hr"], {"lr": lr.numpy()})[0], network(lr), atol=1e-5)


def test_missing_packages_are_named(tmp_path, capsys, monkeypatch):
    def missing(*args, **options):
        raise ModuleNotFoundError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", missing)
    assert main(["export", str(save_checkpoint(tmp_path / "own.pt")), "--onnx", str(tmp_path / "own.onnx")]) == 2
    assert "pip install onnx onnxscript" in capsys.readouterr().err
    assert not (tmp_path / "own.onnx").exists()
