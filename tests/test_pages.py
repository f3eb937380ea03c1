"""What every committed page has to be (links, formulas: test_site.py), and what some write out themselves."""

import ast
import json
import re
from collections import defaultdict
from functools import cache
from itertools import product
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from conftest import PARAMETERS, code_cells
from nbformat import v4
from nbformat.v4.rwbase import rejoin_lines

from course import pages, results
from srlib import models
from srlib.images.degrade import KERNELS, degrade, degrade_matrix, round_8bit
from srlib.train import losses
from srlib.train.config import TrainConfig
from srlib.train.trainer import Trainer

MARKER = "# NBVAL_CHECK_OUTPUT"
MACHINE_PATHS = re.compile(r"(?<![\w.~])/(?:home|root|work|tmp|Users|mnt|opt|var)/|[A-Z]:\\Users")
LACKS_ALT = re.compile(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>")
FOLDED = {"outputs_hidden": True, "source_hidden": True}


@pytest.fixture(params=pages.NAMES)
def page(request):
    """A page as it is in its file, while nbformat would mend ids; with its code, outputs and prose at hand."""
    text = (pages.FOLDER / f"{request.param}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 2e6, "a page is under 2 MB"
    page = rejoin_lines(nbformat.from_dict(json.loads(text)))
    page.name, page.code = request.param, [cell for cell in page.cells if cell.cell_type == "code"]
    page.outputs = [output for cell in page.code for output in cell.outputs]
    prose = "\n\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    page.prose = re.sub(r"^```.*?^```", "", prose, flags=re.MULTILINE | re.DOTALL)
    return page


def test_every_section_ends_in_a_check_that_asserts_or_claims(page):
    heading, last = "what we found", None
    for cell in [*page.cells, v4.new_markdown_cell("## end")]:
        if cell.cell_type == "code":
            last = cell.source.removeprefix(f"{MARKER}\n")
        elif found := re.match(r"##\s+(.+)", cell.source):
            checked = last is None or re.match(r"# Check(.|\n)*(\bassert\b|\.claim\(|\.assert_\w+\()", last)
            assert checked or heading.lower().startswith(("what we found", "exercise")), heading
            heading, last = found[1], None


def test_cells(page):
    assert len({cell.get("id") for cell in page.cells} - {None}) == len(page.cells), "each has an id of its own"
    assert page.metadata.kernelspec == pages.KERNEL
    assert [cell.source for cell in page.code if pages.has_tag(cell, "parameters")] == [PARAMETERS]
    assert max(len(cell.source.splitlines()) for cell in page.code) <= 30, "short enough to be read"
    source = "\n".join(cell.source for cell in page.code)
    assert re.findall(r"^[!%].*|get_ipython.*", source, re.MULTILINE) == [], "no shell line and no magic"
    assert MARKER in source.splitlines(), "nbval has something to compare"
    solutions = [cell for cell in page.code if pages.has_tag(cell, pages.SOLUTION)]
    told = [cell for cell in page.code if cell.source.removeprefix(f"{MARKER}\n").startswith("# Solution")]
    assert told == solutions
    assert all(cell.metadata.get("jupyter") == FOLDED for cell in solutions)
    place, links = pages.NAMES.index(page.name), re.findall(r"\]\((\w+)\.ipynb", page.prose)
    assert {*pages.NAMES[max(place - 1, 0) : place + 2]} - {page.name} <= {*links}, "links to the pages beside it"


def test_outputs(page):
    assert page.metadata.srlib.code_hash == pages.code_hash(page), "outputs of other code: run `make notebooks`"
    assert [cell.execution_count for cell in page.code] == [*range(1, len(page.code) + 1)]
    assert results.collect(page), "the closing cell calls page.summary()"
    kinds = {kind for o in page.outputs for kind in (o.output_type, o.get("name"), *o.get("data", ()))}
    assert not kinds & {"error", "stderr", pages.WIDGET}
    data = [{"text": o.get("text", "")} | o.get("data", {}) for o in page.outputs]
    shown = ["".join(each.get(kind, "") for kind in ("text", "text/plain", "text/html")) for each in data]
    assert [text for text in shown if MACHINE_PATHS.search(text)] == []
    drawn = [o.metadata for o in page.outputs if "image/png" in o.get("data", {})]
    assert "" not in [about.get("image/png", {}).get("alt", "").strip() for about in drawn]
    assert LACKS_ALT.findall(page.prose + "".join(shown)) == []
    for number, text in enumerate(shown):
        still = any("image/png" in each for each in data[max(number - 3, 0) : number])
        assert still or '<div id="moving-' not in text, "a figure that moves has one that stands in for it"


def test_solutions_are_folded_when_a_page_has_been_executed():
    cells = [v4.new_code_cell(metadata={"tags": [tag], "papermill": {}}) for tag in (pages.SOLUTION, "other")]
    pages.tidy(v4.new_notebook(cells=cells))
    assert [cell.metadata.get("jupyter") for cell in cells] == [FOLDED, None]
    assert "papermill" not in cells[0].metadata


@cache
def definitions(name, **given):
    """What a page imports and defines at the top level, without its experiments; ``given`` are its constants."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    kept = [node for cell in code_cells(name) for node in ast.parse(cell.source).body if isinstance(node, kinds)]
    namespace = {"__name__": name, **given}
    exec(compile(ast.Module(kept, type_ignores=[]), f"{name}.ipynb", "exec"), namespace)
    return SimpleNamespace(**namespace)


@pytest.mark.parametrize("kernel", KERNELS)
def test_response_is_a_fourier_transform_and_the_filter_a_least_squares_solution(sample, kernel):
    page_01, hr = definitions("01_data_preparation"), sample.tensor("val", limit=3).double() / 255
    row, lr = degrade_matrix(176, kernel, 4)[22].numpy(), degrade(hr, kernel, 4, round_lr=True)
    found = page_01.response(row, np.fft.rfftfreq(512))
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(row, 512)), atol=1e-12)
    weights = page_01.fit_filter(lr, hr)
    best = (page_01.apply_filter(weights, lr) - hr).square().mean()
    step = 1e-3 * torch.randn(25, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for other in (weights + step, weights - step):
        assert (page_01.apply_filter(other, lr) - hr).square().mean() > best


def test_loop_by_hand_trains_the_packages_weights(sample):
    train_by_hand = definitions("02_subpixel_cnn").train_by_hand
    config = TrainConfig(
        model="subpixel", options={"width": 8}, schedule="exponential", learning_rate=1e-2,
        final_learning_rate=1e-3, warmup=0, ema=0.0, clip=0.0, batch_size=4, patch=32, steps=30, seed=3,
    )  # fmt: skip
    by_hand, errors = train_by_hand(config, sample)
    result = Trainer(config, sample, precision=torch.float32).run()
    package = result.average.model
    torch.testing.assert_close([*by_hand.parameters()], [*package.parameters()], atol=1e-6, rtol=0)
    assert sum(errors) / len(errors) == pytest.approx(result.history[-1]["loss"], rel=1e-5)


def test_in_turn_is_the_package_s():
    per_channel = definitions("03_channel_experiments").PerChannel
    gray, lr = torch.nn.Conv2d(1, 1, 3, padding=1), torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(per_channel(gray)(lr), models.PerChannel(gray)(lr))


def test_a_difference_is_judged_by_its_interval():
    judge, found = definitions("03_channel_experiments").judge, {"03.dropout.rgb_gain": 1.0}
    assert judge(found, "dropout", "-", "=", "+")[1] == "illustration"
    judged = {(-0.3, -0.1): "-", (-0.04, 0.02): "=", (0.01, 0.3): "+", (-0.1, 0.1): "open"}
    for (low, high), word in (judged | {(-0.1, 0.03): "open: behind or equal"}).items():
        ends = {"03.dropout.low": low, "03.dropout.high": high}
        assert judge(found | ends, "dropout", "-", "=", "+")[1] == word


def grid(low, high, ripple=4.0):
    return {"03.plain.gray-rgb.ripple": ripple, "03.plain.grid.low": low, "03.plain.grid.high": high}


def test_verdicts_follow_the_numbers():
    """What is not found is 0."""
    whole = {"rgb": {"bicubic": {"rgb.psnr_of_mean_mse": 26.5}}}
    for claim, found, verdict in (
        ("low saturation", {"03.gray_rgb.saturation": 60.0}, "confirmed"),
        ("low saturation", {"03.gray_rgb.saturation": 100.0}, "depends"),
        ("fewer grids", grid(2.0, 4.0), "refuted at"),
        ("fewer grids", grid(0.01, 0.41), "refuted at this length: equal"),
        ("fewer grids", grid(-4.0, -1.0), "confirmed"),
        ("fewer grids", grid(-0.1, 0.9), "open"),
        ("fewer grids", grid(2.0, 4.0, ripple=0.4), "not testable"),
        ("PSNR 28.41 dB", {"reached": 28.43}, "reached: 28.43"),
        ("PSNR 28.41 dB", {"reached": 25.29}, "refuted: 25.29"),
    ):
        other_claims, found = definitions("03_channel_experiments").other_claims, defaultdict(float, found)
        other_claims.__globals__.update(whole=whole, reached={"psnr_of_mean_mse": found["reached"]})
        (said,) = (said for text, _, said in other_claims(found) if claim in text)
        assert said.startswith(verdict)


def test_tied_transposed_kernel_is_the_nearest():
    """No other kernel with equal phase sums is nearer: the change is orthogonal to all that keep the sums."""
    torch.manual_seed(1)
    tie = definitions("04_checkerboard_artifacts", PHOTO=None).EvenSums(4)  # a default of an argument
    weight, *others = torch.randn(21, 1, 1, 9, 9, dtype=torch.float64)
    for other in others:
        assert abs(float(((tie(weight) - weight) * tie(other)).sum())) < 1e-9


@pytest.fixture(scope="module")
def page_05():
    """The names that the page imports, its functions on lines, which train nothing here, and its cells by id."""
    opened, cells = SimpleNamespace(pick=lambda smoke, **_: smoke), code_cells("05_psnr_limits")
    names = {"page": opened, "SEED": 0, "GAMES": {}, "target": torch.zeros(6, 3, 176, 176)}
    names["cells"] = {cell.id: cell.source for cell in cells}
    exec(names["cells"]["setup"].partition("\npage =")[0] + "\n" + names["cells"]["s6-config"], names)
    names["SEEDS"] = range(5)
    for name in ("lines-losses", "lines-moved", "lines-contrasts"):
        exec(names["cells"][name], names)
    return names


def test_verdicts_are_said_in_words(page_05):
    random = np.random.default_rng(2)
    better = {"PSNR": True, "SSIM": True, "LPIPS": False, "patches": False}
    effects = {"mse": (0, 0.005), "l1": (0.004, 0.005), "ssim": (-3.0, 0.1), "adversarial": (0.0, 2.0)}
    draws = {name: mean + random.normal(0, noise, size=(6, 4, 8)) for name, (mean, noise) in effects.items()}
    per_seed = {name: [dict(zip(better, seed)) for seed in values] for name, values in draws.items()}
    names = {**page_05, "NAMES": tuple(effects), "per_seed": per_seed, "HIGHER_IS_BETTER": better}
    exec(names["cells"]["s6-effects"], names)
    said = {key: row["verdict"] for key, row in names["decided"].items()}
    assert (said["l1", "PSNR"], said["adversarial", "SSIM"]) == ("equal", "open")
    assert [said["ssim", metric] for metric in better] == ["worse", "worse", "better", "better"]
    low, high = names["interval"](names["contrasts"]["ssim", "PSNR"])
    assert low < -3 < high
    assert high - low < names["decided"]["ssim", "PSNR"]["high"] - names["decided"]["ssim", "PSNR"]["low"]


def test_a_critic_without_strides_is_the_same_one_at_every_place(page_05):
    kinds = losses.Adversarial, page_05["StridelessCritic"]
    by_8, everywhere = (kind(**page_05["CRITIC"], seed=1) for kind in kinds)
    assert repr(everywhere) != repr(by_8), "or one training would pass for the other"
    by_8, everywhere = by_8.judge.eval(), everywhere.judge.eval()
    probe = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(everywhere[1:](probe)[..., ::8, ::8], by_8[1:](probe), atol=1e-5)
        turned = [(y, x) for y in range(4) for x in range(4)]
        each = [by_8[0](probe.roll((y, x), (2, 3))).roll((-y, -x), (2, 3)) for y, x in turned]
        gap = (torch.stack(each).mean(dim=0) - everywhere[0](probe))[..., 12:-12, 12:-12]
    assert float(gap.abs().max()) < 1e-4  # its detail is the mean over all places of the blocks


def test_the_contrasts_of_lines_say_what_was_put_in(page_05):
    random, cells = np.random.default_rng(0), {}
    put_in = {"mse": 0, "perceptual": 8, "moved": 0, "adversarial": 8, "no strides": 8}
    for cure, name in product(page_05["CURES"], put_in):
        excess = (-20 if cure == "ramp" else put_in[name]) + random.normal(0, 0.1, (5, 6))
        lpips = 0.1 + random.normal(0, 1e-4, (5, 6))
        cells[cure, name] = [{"excess": x, "lpips": y} for x, y in zip(excess, lpips)]
    page_05["PHOTOS"][:] = [{"excess": np.full(6, -1.0)}] * 5
    said = {label: row["verdict"] for label, row in page_05["contrasted"](cells, "excess").items()}
    assert said["plain, moved - mse"] == said["plain, adversarial - no strides"] == "equal"
    assert said["plain, perceptual - mse"] == said["ICNR, perceptual - moved"] == "more"
    assert {verdict for label, verdict in said.items() if "ramp" in label} == {"less"}
    assert {row["verdict"] for row in page_05["contrasted"](cells, "lpips").values()} == {"equal"}


def test_nothing_damaged_is_the_lr_of_the_course_and_each_damage_does_harm():
    damaged = definitions("06_beside_the_field").damaged
    hr = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    clean = damaged(hr)
    assert torch.equal(clean, degrade(hr, "bicubic", 4, round_lr=True))
    for how in ({"blur": 1.5}, {"noise": 6}, {"quality": 40}):
        lr = damaged(hr, **how)
        assert torch.equal(lr, round_8bit(lr))
        assert not torch.equal(lr, clean), how
        assert torch.equal(lr, damaged(hr, **how)), "the same grain for every network"
    assert float((damaged(hr, noise=6) - clean).std() * 255) == pytest.approx(6, rel=0.1)
