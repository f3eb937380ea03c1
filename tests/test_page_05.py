"""Page 05: its definitions against other libraries and counted by hand; Set5 is found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from page_code import code_cells
from scipy.stats import spearmanr
from skimage.filters import gaussian

from course import plots
from course.page import find_set5
from srlib.data import open_store
from srlib.measure import metrics
from srlib.train import losses

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def cells() -> dict[str, str]:
    return {cell.id: cell.source for cell in code_cells("05_psnr_limits")}


@pytest.fixture(scope="module")
def page(cells, tmp_path_factory) -> dict[str, Any]:
    """The page's names after the cells that need no training, at smoke, with figures thrown away."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SRLIB_BUDGET", "smoke")
    patch.setattr(plots, "show", lambda figure, alt: plots.plt.close(figure))
    names: dict[str, Any] = {}
    exec(cells["parameters"] + f"\nRUNS = {str(tmp_path_factory.mktemp('runs'))!r}", names)
    for name in ("setup", "tool", "sell", "psnr-def", "s1-set", "s1-score", "s3-make", "s2-define", "s2-make",
                 "s2-score", "s5-library", "s5-queries", "s5-neighbours"):  # fmt: skip
        exec(cells[name], names)
    yield names
    patch.undo()


def test_blur_and_shift_are_what_they_say(page):
    photo = page["photo"]
    theirs = gaussian(photo[0].numpy(), sigma=2, channel_axis=0, mode="mirror", truncate=24)
    assert np.abs(page["blur"](photo, 2.0)[0].numpy() - theirs).max() < 1e-5
    moved = page["shift"](photo, 3.0)
    assert torch.allclose(moved[..., 3:], photo[..., :-3], atol=1e-5)
    there_and_back = page["shift"](page["shift"](photo, 0.5).clone(), 0.0)
    assert torch.allclose(there_and_back, page["shift"](photo, 0.5), atol=1e-5)


def test_close_ups_are_of_different_photos(page):
    assert len(page["close_ups"]) == 8
    assert {tuple(x.shape) for x in page["close_ups"]} == {(3, 64, 64)}
    assert len({float(x.mean()) for x in page["close_ups"]}) == 8


def test_patch_divergence_compares_distributions_and_no_pairs(page):
    x = torch.rand(3, 3, 176, 176, generator=torch.Generator().manual_seed(0))
    x = x * torch.tensor([0.2, 0.5, 1.0]).reshape(3, 1, 1, 1)
    same, divergence = x.clone(), page["patch_divergence"]
    same[..., 44:132, 44:132] = x[[2, 0, 1]][..., 44:132, 44:132]  # each output is another picture's photo
    between, pairs = float(divergence(same, x)), float(metrics.patch_distance(same, x).mean())
    assert between < 0.2 * pairs
    assert float(divergence(x, x)) == 0
    assert float(divergence(x / 2, x)) > 10 * between


def test_patches_belong_together(page):
    """The mean of the HR pixels behind an LR pixel is near that pixel, also without mean and contrast."""
    small, large, _ = page["lr_and_hr_patches"](open_store("sample").tensor("val", limit=2), 2)
    middle_lr = small[:, page["SIDE"] ** 2 // 2]
    middle_hr = large.reshape(-1, 12, 12)[:, 4:8, 4:8].mean(dim=(1, 2))
    assert float((middle_lr - middle_hr).abs().median()) < 0.1
    assert float(torch.corrcoef(torch.stack([middle_lr, middle_hr]))[0, 1]) > 0.95


def test_places_are_those_of_the_photo_at_full_size(page):
    found = page["places"](["a/s1.00/y010x020", "b/s0.50/y004x006", "a/s0.80/y000x000", "face.jpg"], 13)
    assert found.shape == (4 * 16, 3)  # 40 / 13 + 1 patches to a side
    assert found[0].tolist() == [0, 10, 20]
    assert found[17].tolist() == [1, 8, 12 + 4 * 13 / 0.5]
    assert found[32].tolist() == [0, 0, 0]
    assert found[-1].tolist() == [2, 4 * 39, 4 * 39]


def test_neighbours_are_nearest_first_and_apart(page):
    for row in page["where"][page["chosen"].numpy()]:
        near = np.abs(row[:, None, 1:] - row[None, :, 1:]).max(axis=2) < page["APART"]
        assert (near & (row[:, None, 0] == row[None, :, 0])).sum() == len(row), "each is near itself alone"
    assert (page["distance_lr"].diff(dim=1) >= -1e-5).all()
    nearest = torch.cdist(page["query_lr"], page["known_lr"]).amin(dim=1)
    assert torch.allclose(page["distance_lr"][:, 0], nearest, atol=1e-4)


def test_rank_correlation_is_spearmans_with_ties(page, cells):
    names: dict[str, Any] = {**page, "votes": np.zeros((0, 2, 3)), "names": ["a", "b"]}
    exec(cells["s8-matrix"].split("\n\n\n")[0], names)
    votes = np.random.default_rng(0).integers(6, size=(3, 20))
    assert np.allclose(names["rank_correlations"](votes), spearmanr(votes, axis=1).statistic)


def test_verdicts_are_said_in_words(page, cells):
    random = np.random.default_rng(2)
    better = {"PSNR": True, "SSIM": True, "LPIPS": False, "patches": False}
    effects = {"mse": 0, "l1": 0.004, "ssim": -3.0, "perceptual": 1.0, "adversarial": 0.0}
    noise = {"mse": 0.005, "l1": 0.005, "adversarial": 2.0}
    draws = {name: effects[name] + random.normal(0, noise.get(name, 0.1), size=(6, 4, 8)) for name in effects}
    per_seed = {name: [dict(zip(better, seed)) for seed in values] for name, values in draws.items()}
    names: dict[str, Any] = {**page, "NAMES": tuple(effects), "per_seed": per_seed, "HIGHER_IS_BETTER": better}
    exec(cells["s6-effects"], names)
    said = {key: row["verdict"] for key, row in names["decided"].items()}
    assert (said["l1", "PSNR"], said["adversarial", "SSIM"]) == ("equal", "open")
    assert said["ssim", "PSNR"] == said["perceptual", "LPIPS"] == said["perceptual", "patches"] == "worse"
    assert said["perceptual", "SSIM"] == said["ssim", "LPIPS"] == "better"
    low, high = names["interval"](names["contrasts"]["ssim", "PSNR"])
    assert low < -3 < high
    assert high - low < names["decided"]["ssim", "PSNR"]["high"] - names["decided"]["ssim", "PSNR"]["low"]


@pytest.fixture(scope="module")
def lines(page, cells) -> dict[str, Any]:
    """The page's names with those of the section on lines, which trains nothing here."""
    names = {**page, "GAMES": {}, "target": torch.zeros(6, 3, 176, 176)}
    exec(cells["s6-config"], names)
    names["SEEDS"] = range(5)
    for name in ("lines-losses", "lines-moved", "lines-contrasts"):
        exec(cells[name], names)
    return names


def test_a_moved_loss_keeps_mse_and_changes_lpips_of_a_grid(lines):
    photo = lines["photo"][..., :64, :64]
    output = (photo + 0.02 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    still, moved = losses.perceptual_loss(output, photo), lines["Moved"](0)
    found = {round(float(moved(output, photo)), 7) for _ in range(12)}
    assert len(found) > 3
    assert max(found) == pytest.approx(float(still), rel=0.2)
    assert repr(lines["Moved"](1)) != repr(lines["Moved"](2))


def test_a_critic_without_strides_is_another_loss_and_learns(lines):
    critic, plain = lines["StridelessCritic"](**lines["CRITIC"]), losses.Adversarial(**lines["CRITIC"])
    assert repr(critic) != repr(plain)
    photo = lines["photo"][..., :32, :32]
    before = [p.detach().clone() for p in critic.judge.parameters()]
    assert critic(0.5 * photo, photo) > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, critic.judge.parameters()))
    assert {layer.stride for layer in critic.judge if isinstance(layer, torch.nn.Conv2d)} == {(1, 1)}


def test_a_critic_without_strides_is_the_same_one_at_every_place(lines):
    step_by_8, everywhere = (
        kind(**lines["CRITIC"], seed=1).judge.eval() for kind in (losses.Adversarial, lines["StridelessCritic"])
    )
    probe = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(everywhere[1:](probe)[..., ::8, ::8], step_by_8[1:](probe), atol=1e-5)
        turned = [(y, x) for y in range(4) for x in range(4)]
        each = [step_by_8[0](probe.roll((y, x), (2, 3))).roll((-y, -x), (2, 3)) for y, x in turned]
        gap = (torch.stack(each).mean(dim=0) - everywhere[0](probe))[..., 12:-12, 12:-12]
    assert float(gap.abs().max()) < 1e-4  # its detail is the mean over all places of the blocks


def test_the_contrasts_of_lines_say_what_was_put_in(lines):
    random, cells = np.random.default_rng(0), {}
    put_in = {"mse": 0, "perceptual": 8, "moved": 0, "adversarial": 8, "no strides": 8}
    for cure in lines["CURES"]:
        for name in lines["ARMS"]:
            level = -20 if cure == "ramp" else put_in[name]
            cells[cure, name] = [
                {"excess": level + random.normal(0, 0.1, 6), "lpips": 0.1 + random.normal(0, 1e-4, 6)}
                for _ in lines["SEEDS"]
            ]
    lines["PHOTOS"][:] = [{"excess": np.full(6, -1.0)}] * 5
    said = {label: row["verdict"] for label, row in lines["contrasted"](cells, "excess").items()}
    assert said["plain, moved - mse"] == said["plain, adversarial - no strides"] == "equal"
    assert said["plain, perceptual - mse"] == said["ICNR, perceptual - moved"] == "more"
    assert {verdict for label, verdict in said.items() if "ramp" in label} == {"less"}
    assert {row["verdict"] for row in lines["contrasted"](cells, "lpips").values()} == {"equal"}


def test_set5_is_found_and_none_is_no_error(tmp_path):
    assert find_set5(str(tmp_path)) == []
    benchmarks = SHARED / "benchmarks"
    if not benchmarks.is_dir():
        pytest.skip(f"needs the benchmarks in {benchmarks}")
    assert len(find_set5(str(SHARED / "celeba"))) == len(find_set5(str(benchmarks))) == 5
