"""Batches: the same for a seed and a step whatever else differs, aligned, and made as the kernels say."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from srlib.data import Batches, Store, open_store
from srlib.images.degrade import KERNELS, degrade


@pytest.fixture(scope="module")
def store() -> Store:
    return open_store("sample")


@pytest.fixture(scope="module")
def numbered() -> Store:
    """Ten photos in which every pixel tells its row and its place: channels are photo, y and x."""
    images = np.zeros((10, 3, 176, 176), np.uint8)
    images[:, 0] = np.arange(10)[:, None, None]
    images[:, 1] = np.arange(176)[None, :, None]
    images[:, 2] = np.arange(176)[None, None, :]
    rows = np.arange(10)
    split = {"train": rows[1::2], "val": rows[::2], "test": rows[:0]}
    return Store(images, [str(row) for row in rows], split, "folder", "center", "numbered")


@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_ranges_and_lr_by_the_kernel(store: Store, kernel: str) -> None:
    lr, hr = Batches(store, "train", 16, 88, kernel, 4).batch(3)
    assert hr.shape == (16, 3, 88, 88)
    assert lr.shape == (16, 3, 22, 22)
    for x in (lr, hr):
        assert x.dtype == torch.float32
        assert 0 <= x.min() < x.max() <= 1
        assert torch.equal((x * 255).round() / 255, x), "8 bits, like a file"
    assert torch.equal(lr, degrade(hr, kernel, 4, round_lr=True))


PINNED = {  # batch size, patch, seed and more, and what 6 batches of crops and 4 draws have for a SHA-1
    "299dc5c3fd5031c33ea6a6386d6e01e903b76029": ("train", 16, 88, 7, {}),
    "5fbb6e2c1fecf23a74aead3d22a8151060992b30": ("train", 6, 176, 123456789, {}),
    "4e446ab399b53484e76999ae77f1e61c52f53cfa": ("val", 8, 48, 0, {"rank": 1, "world_size": 2}),
    "3b0493f9bcb10ec4e61878626f0ccc181f97572d": ("train", 8, 32, -1, {"flip": False, "scale": 2}),
}


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("pinned", PINNED)
def test_these_crops_never_change(store: Store, pinned: str, hold: bool) -> None:
    """Recorded scores hang on which crops a seed gives; indexing on the device gives those that slices give."""
    split, size, patch, seed, more = PINNED[pinned]
    batches, digest = Batches(store, split, size, patch, seed=seed, hold=hold, **more), hashlib.sha1()
    for step in (0, 1, 13, 14, 15, 1000):
        digest.update(batches.crops(step).numpy().tobytes())
    digest.update(repr([[x.tolist() for x in batches.draw(step)] for step in (0, 14, 29, 500)]).encode())
    assert digest.hexdigest() == pinned


@pytest.mark.parametrize(("patch", "hold"), [(32, False), (32, True), (176, False), (176, True)])
def test_crops_are_aligned_and_flipped_left_to_right(numbered: Store, patch: int, hold: bool) -> None:
    batches = Batches(numbered, "train", 64, patch, scale=4, hold=hold)
    draw, crops = batches.draw(0), batches.crops(0)
    assert set(draw.flip.tolist()) == {False, True}
    assert set(draw.top % 4) == set(draw.left % 4) == {0}
    assert draw.top.max() <= 176 - patch
    for crop, row, top, left, flip in zip(crops.numpy(), *draw):
        x = np.arange(left, left + patch)
        assert (crop[0] == row).all()
        assert (crop[1] == np.arange(top, top + patch)[:, None]).all()
        assert (crop[2] == (x[::-1] if flip else x)).all()


def test_every_photo_once_in_an_epoch_also_across_batches(numbered: Store) -> None:
    batches = Batches(numbered, "train", 3, 32)
    epochs = np.concatenate([batches.draw(step).rows for step in range(10)]).reshape(6, 5).tolist()
    assert all(sorted(epoch) == [1, 3, 5, 7, 9] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_processes_together_see_the_batch_of_one(store: Store) -> None:
    parts = [Batches(store, "train", 8, 32, seed=3, rank=rank, world_size=4).crops(5) for rank in range(4)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), Batches(store, "train", 8, 32, seed=3).crops(5))


# --- photos on the device -------------------------------------------------------------------------------


def test_photos_are_put_on_a_device_once_and_shared(numbered: Store, store: Store) -> None:
    held = numbered.photos("train")
    assert torch.equal(held, numbered.tensor("train"))
    assert numbered.photos("train", torch.device("cpu")).data_ptr() == held.data_ptr()
    batches = Batches(numbered, "train", 8, 32, hold=True)
    for each in (batches, batches.with_patch(64), Batches(numbered, "train", 4, 176, seed=3, hold=True)):
        each.crops(0)
    assert len(numbered._held) == 1
    whole = store.photos("train")  # rows that lie together are not copied
    assert whole.data_ptr() == store.images[store.rows("train")[0]].ctypes.data
    assert store.fits("val", torch.device("cpu")), "the store's own memory is used"
    other = replace(store, images=store.images[:, ::-1].copy(), fingerprint="other")
    assert torch.equal(other.photos("train"), whole.flip(1)), "another store has photos of its own"


@pytest.mark.parametrize("patch", [32, 176])
def test_crops_on_a_device_wait_for_nothing(store: Store, patch: int) -> None:
    """The device "meta" has no values: whoever asks for one, as ``item`` and ``nonzero`` do, gets an error."""
    crops = Batches(store, "train", 8, patch, device="meta", hold=True).crops(3)
    assert crops.device.type == "meta"
    assert crops.shape == (8, 3, patch, patch)
    assert crops.dtype == torch.uint8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("hold", [None, True, False])
@pytest.mark.parametrize("patch", [88, 176])
def test_the_same_on_a_gpu(store: Store, hold: bool | None, patch: int) -> None:
    expected = Batches(store, "train", 16, patch).batch(9)
    batches = Batches(store, "train", 16, patch, device="cuda", hold=hold)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches.crops(8) if batches.hold else None
        found = batches.batch(9)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found[1].cpu(), expected[1])
    assert (found[0].cpu() - expected[0]).abs().max() <= 1.01 / 255


def test_crops_of_another_size_come_from_the_same_photos(store: Store) -> None:
    small, large = Batches(store, "train", 8, 32), Batches(store, "train", 8, 32).with_patch(64)
    assert np.array_equal(small.draw(5).rows, large.draw(5).rows)
    assert torch.equal(large.crops(5), Batches(store, "train", 8, 64).crops(5))
    with pytest.raises(ValueError, match="got 180"):
        small.with_patch(180)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 30}, "patch must be a multiple of the scale 4, at most 176; got 30"),
        ({"patch": 180}, "got 180"),
        ({"patch": 0}, "got 0"),
        ({"batch_size": 0}, "batch_size must be a positive multiple of the 1 processes; got 0"),
        ({"batch_size": 3, "world_size": 2}, "multiple of the 2 processes; got 3"),
        ({"split": "test"}, "the split 'test' has no photos"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"step": -1}, "step must not be negative; got -1"),
    ],
)
def test_wrong_arguments_are_named(numbered: Store, options: dict, message: str) -> None:
    step = options.pop("step", 0)
    with pytest.raises(ValueError, match=message):
        Batches(**{"store": numbered, "split": "train", "batch_size": 4, "patch": 32} | options).batch(step)
