"""Batches: the same for a seed and a step whatever else differs, aligned, and made as the kernels say."""

import mmap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_data_store import generate

from srlib.data import Batches, Store, open_store
from srlib.data.batches import AHEAD
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


def test_shapes_ranges_and_types(store: Store) -> None:
    lr, hr = Batches(store, "train", 16, 88, "bicubic", 4).batch(0)
    assert hr.shape == (16, 3, 88, 88)
    assert lr.shape == (16, 3, 22, 22)
    for x in (lr, hr):
        assert x.dtype == torch.float32
        assert 0 <= x.min() < x.max() <= 1
        assert torch.equal((x * 255).round() / 255, x), "8 bits, like a file"


@pytest.mark.parametrize("kernel", KERNELS)
def test_lr_is_made_from_the_crop_by_the_kernel(store: Store, kernel: str) -> None:
    lr, hr = Batches(store, "val", 4, 48, kernel, 4).batch(3)
    assert torch.equal(lr, degrade(hr, kernel, 4, round_lr=True))


def test_a_pure_function_of_seed_and_step(store: Store) -> None:
    first, second = Batches(store, "train", 8, 32, seed=5), Batches(store, "train", 8, 32, seed=5)
    late = second.crops(1000)
    assert torch.equal(first.crops(7), second.crops(7))
    assert torch.equal(first.crops(1000), late)
    assert not torch.equal(first.crops(8), first.crops(7))
    assert not torch.equal(Batches(store, "train", 8, 32, seed=6).crops(7), first.crops(7))


def test_these_draws_never_change(numbered: Store) -> None:
    """Recorded scores hang on which crops a seed gives."""
    draw = Batches(numbered, "train", 4, 88, seed=0).draw(2)
    assert draw.rows.tolist() == [5, 1, 3, 5]
    assert draw.top.tolist() == [48, 12, 60, 88]
    assert draw.left.tolist() == [20, 0, 24, 48]
    assert draw.flip.tolist() == [True, False, False, True]


def test_crops_are_aligned_and_flipped_left_to_right(numbered: Store) -> None:
    batches = Batches(numbered, "train", 64, 32, scale=4)
    draw, crops = batches.draw(0), batches.crops(0)
    assert set(draw.flip.tolist()) == {False, True}
    assert set(draw.top % 4) == set(draw.left % 4) == {0}
    assert draw.top.max() <= 144
    for crop, row, top, left, flip in zip(crops.numpy(), draw.rows, draw.top, draw.left, draw.flip):
        x = np.arange(left, left + 32)
        assert (crop[0] == row).all()
        assert (crop[1] == np.arange(top, top + 32)[:, None]).all()
        assert (crop[2] == (x[::-1] if flip else x)).all()
    assert not Batches(numbered, "train", 64, 32, flip=False).draw(0).flip.any()


def test_a_patch_may_be_the_whole_photo(numbered: Store) -> None:
    draw = Batches(numbered, "train", 8, 176).draw(0)
    assert not draw.top.any()
    assert not draw.left.any()


def test_every_photo_once_in_an_epoch_also_across_batches(numbered: Store) -> None:
    batches = Batches(numbered, "train", 3, 32)
    rows = np.concatenate([batches.draw(step).rows for step in range(10)])
    epochs = rows.reshape(6, 5)
    assert all(sorted(epoch) == [1, 3, 5, 7, 9] for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_see_the_batch_of_one(store: Store, world_size: int) -> None:
    whole = Batches(store, "train", 8, 32, seed=3).crops(5)
    parts = [
        Batches(store, "train", 8, 32, seed=3, rank=rank, world_size=world_size).crops(5)
        for rank in range(world_size)
    ]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def test_crops_of_another_size_come_from_the_same_photos(store: Store) -> None:
    small, large = Batches(store, "train", 8, 32), Batches(store, "train", 8, 32).with_patch(64)
    assert np.array_equal(small.draw(5).rows, large.draw(5).rows)
    assert torch.equal(large.crops(5), Batches(store, "train", 8, 64).crops(5))
    with pytest.raises(ValueError, match="got 180"):
        small.with_patch(180)


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice on memory maps")
def test_a_memory_map_is_read_ahead_and_gives_the_same_crops(tmp_path: Path) -> None:
    photos = generate(tmp_path / "photos", 20)
    store = open_store(photos, tmp_path / "runs")
    advised = []

    class Map:
        def madvise(self, advice: int, start: int, length: int) -> None:
            assert advice == mmap.MADV_WILLNEED
            assert start % mmap.PAGESIZE == 0
            advised.append((start, start + length))

    batches = Batches(store, "train", 4, 32)
    in_memory = Batches(replace(store, images=np.array(store.images)), "train", 4, 32)
    real, store.images._mmap = store.images._mmap, Map()
    try:
        crops = batches.crops(0)
    finally:
        store.images._mmap = real
    assert torch.equal(crops, in_memory.crops(0))
    rows = batches.draw(AHEAD).rows
    assert len(advised) == len(rows)
    for row, (start, end) in zip(rows.tolist(), advised):
        begin = store.images.offset + row * store.images.strides[0]
        assert start <= begin
        assert end == begin + store.images.strides[0]


def test_photos_are_loaded_in_parts(store: Store) -> None:
    assert torch.equal(Batches(store, "train", 8, 32)._load(), store.tensor("train"))


def test_gathering_on_the_device_gives_the_same_crops(store: Store) -> None:
    batches = Batches(store, "train", 16, 88)
    gathered = batches._gather(store.tensor("train"), batches.draw(9))
    assert torch.equal(gathered, batches.crops(9))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("hold", [True, False])
def test_the_same_on_a_gpu(store: Store, hold: bool) -> None:
    expected = Batches(store, "train", 16, 88).batch(9)
    found = Batches(store, "train", 16, 88, device="cuda", hold=hold).batch(9)
    assert torch.equal(found[1].cpu(), expected[1])
    assert (found[0].cpu() - expected[0]).abs().max() <= 1.01 / 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 30}, "patch must be a multiple of the scale 4, at most 176; got 30"),
        ({"patch": 180}, "got 180"),
        ({"patch": 0}, "got 0"),
        ({"batch_size": 0}, "batch_size must be a positive multiple of the 1 processes; got 0"),
        ({"batch_size": 3, "world_size": 2}, "multiple of the 2 processes; got 3"),
        ({"rank": 2, "world_size": 2}, r"rank must lie in 0\.\.1; got 2"),
        ({"split": "test"}, "the split 'test' has no photos"),
        ({"split": "dev"}, "unknown split 'dev'"),
    ],
)
def test_wrong_arguments_are_named(numbered: Store, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batches(**{"store": numbered, "split": "train", "batch_size": 4, "patch": 32} | options)


def test_a_negative_step_is_refused(numbered: Store) -> None:
    with pytest.raises(ValueError, match="step must not be negative; got -1"):
        Batches(numbered, "train", 4, 32).batch(-1)
