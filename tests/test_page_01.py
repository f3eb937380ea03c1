"""Page 01's own definitions, where its own cells do not compare them, against what mathematics says."""

import numpy as np
import pytest
import torch
from page_code import definitions

from srlib.data import open_store
from srlib.images.degrade import KERNELS, degrade, degrade_matrix, upsample


@pytest.fixture(scope="module")
def page():
    return definitions("01_data_preparation")


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Three tiles of the sample, float64 in [0, 1], and their bicubic enlargements, which leave that range."""
    hr = open_store("sample").tensor("val", limit=3).double() / 255
    return upsample(degrade(hr, "bicubic", 4, round_lr=True), 4), hr


@pytest.mark.parametrize("kernel", KERNELS)
def test_response_is_the_fourier_transform_of_a_row(page, kernel):
    row = degrade_matrix(176, kernel, 4)[22].numpy()
    found = page.response(row, np.fft.rfftfreq(512))
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(row, 512)), atol=1e-12)


def test_refit_undoes_a_gain_and_an_offset_of_each_picture_and_no_swap(page, pictures):
    _, hr = pictures
    gain, offset = torch.tensor([0.5, 2.0, 1.1]).double(), torch.tensor([0.1, -0.3, 0.0]).double()
    bent = hr * gain.view(3, 1, 1, 1) + offset.view(3, 1, 1, 1)
    torch.testing.assert_close(page.refit(bent, hr), hr)
    assert (page.refit(hr.flip(1), hr) - hr).abs().max() > 0.1


def test_impostor_has_the_same_lr_image_and_legal_values(page, pictures):
    _, hr = pictures
    shrink = degrade_matrix(176, "bicubic", 4)
    double = page.impostor(hr[0], hr[1], shrink, rounds=60)
    assert 0 <= double.min() <= double.max() <= 1
    assert (shrink @ (double - hr[0]) @ shrink.T).abs().max() < 3 / 255
    assert page.psnr(double[None], hr[:1]).item() < 30


def test_zone_plate_reaches_its_frequency_at_the_edge(page):
    plate = page.zone_plate(1001, 0.25)[0]
    assert plate.min() >= 0
    assert plate.max() == 1
    row = plate[500, 501:].numpy()  # from the middle to the edge the phase grows by pi f r^2 / R
    crossings = np.count_nonzero(np.diff(row > 0.5))
    assert crossings == pytest.approx(0.25 * 500, abs=2)  # twice the mean frequency, f / 2, times the radius


def test_cosines_are_orthonormal_and_the_ideal_image_keeps_slow_waves(page):
    basis = page.cosines(176)
    torch.testing.assert_close(basis @ basis.T, torch.eye(176, dtype=torch.float64))
    ideal = page.cosines(44).T @ basis[:44] / 2
    torch.testing.assert_close(ideal.sum(dim=1), torch.ones(44, dtype=torch.float64))
    wave = torch.cos(torch.pi * 10 * (torch.arange(176) + 0.5).double() / 176)
    same_wave = torch.cos(torch.pi * 10 * (torch.arange(44) + 0.5).double() / 44)
    torch.testing.assert_close(ideal @ wave, same_wave)


@pytest.mark.parametrize("kernel", KERNELS)
def test_filter_is_the_least_squares_solution_and_undoes_what_it_can(page, pictures, kernel):
    _, hr = pictures
    lr = degrade(hr, kernel, 4, round_lr=True)
    weights = page.fit_filter(lr, hr)
    assert weights.shape == (25, 16)
    best = (page.apply_filter(weights, lr) - hr).square().mean()
    step = 1e-3 * torch.randn(25, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for other in (weights + step, weights - step):
        assert (page.apply_filter(other, lr) - hr).square().mean() > best


def test_stretch_maps_every_photo_to_its_own_extremes(page):
    photos = 0.2 + 0.5 * torch.rand(4, 3, 8, 8)
    stretched = page.stretch(photos)
    assert stretched.amin(dim=(1, 2, 3)).tolist() == [0] * 4
    assert stretched.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 4)
    assert page.stretch(torch.full((1, 3, 8, 8), 0.4)).isfinite().all()


def test_solution_places_the_samples(page):
    ramp = torch.arange(176).double() + 0.5
    shifted = page.shifted_bicubic_matrix(44, 4, 0.5) @ degrade_matrix(176, "decimate", 4) @ ramp
    torch.testing.assert_close(shifted[8:-8], ramp[8:-8])  # a cubic reproduces a ramp where no tap is missing
