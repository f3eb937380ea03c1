"""Batches: the same for a seed and a step whatever else differs, aligned, and made as the kernels say."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from srlib.data import Batches
from srlib.images.degrade import KERNELS, degrade

PINNED = {  # batch size, patch, seed and more, and what 6 batches of crops and 4 draws have for a SHA-1
    "24efe573a6bd2ac323a81f6fc93ef19b80d26141": ("train", 16, 88, 7, {}),
    "815224f678631c33514ff71c5f0689a4ae37b5b1": ("train", 6, 176, 123456789, {}),
    "a36a38127007377048c3a4b2cecf4aa139c480c8": ("val", 8, 48, 0, {"rank": 1, "world_size": 2}),
    "d40ca5152cd036bd4f965e141bfcced8c921f5b1": ("train", 8, 32, -1, {"scale": 2}),
}


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("pinned", PINNED)
def test_these_crops_never_change(sample, pinned, hold):
    """Recorded scores hang on which crops a seed gives; indexing on the device gives those that slices give."""
    split, size, patch, seed, more = PINNED[pinned]
    batches, digest = Batches(sample, split, size, patch, seed=seed, hold=hold, **more), hashlib.sha1()
    for step in (0, 1, 13, 14, 15, 1000):
        digest.update(batches.crops(step).numpy().tobytes())
    digest.update(repr([[x.tolist() for x in batches.draw(step)] for step in (0, 14, 29, 500)]).encode())
    assert digest.hexdigest() == pinned


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_batch_is_crops_on_whole_lr_pixels_mirrored_or_not_and_their_lr_by_the_kernel(sample, kernel):
    batches = Batches(sample, "train", 64, 32, kernel)
    lr, hr = batches.batch(0)
    for crop, row, top, left, flip in zip(hr, *batches.draw(0)):
        wanted = torch.from_numpy(sample.images[row, :, top : top + 32, left : left + 32])
        assert torch.equal(crop, (wanted.flip(-1) if flip else wanted) / 255)
        assert top % 4 == left % 4 == 0
    assert torch.equal(lr, degrade(hr, kernel, 4, round_lr=True))


def test_photos_are_put_on_a_device_once_and_shared(sample):
    apart = replace(sample, split={**sample.split, "val": np.arange(1, 99, 2)})
    held = apart.photos("val")
    assert torch.equal(held, apart.tensor("val"))
    assert held is apart.photos("val", torch.device("cpu"))
    whole = sample.photos("train")  # rows that lie together are not copied
    assert whole.data_ptr() == sample.images[sample.rows("train")[0]].ctypes.data
    assert sample.fits("test", torch.device("cpu")), "the sample's own memory is used"


@pytest.mark.parametrize(
    ("name", "value"), [("patch", 30), ("patch", 180), ("batch_size", 3), ("split", "test"), ("split", "dev")]
)
def test_wrong_arguments_are_named(sample, name, value):
    store = replace(sample, split={**sample.split, "test": np.array([], int)})
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        Batches(
            **{"store": store, "split": "train", "batch_size": 4, "patch": 32, "world_size": 2} | {name: value}
        )
