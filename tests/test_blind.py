"""The blind test: its order, its answers, its curve, and where it takes a person to be."""

import ipywidgets
import pytest
import torch
from matplotlib import pyplot as plt

from course import blind


@pytest.fixture
def test() -> blind.BlindTest:
    photo = torch.zeros(3, 32, 32)
    distorted = [(kind, decibel, photo + 0.1) for kind in ("blur", "noise") for decibel in (30.0, 35.0, 40.0)]
    return blind.BlindTest(photo, distorted, seed=1)


def test_order_and_sides_follow_the_seed(test):
    again = blind.BlindTest(test.photo, [(t.kind, t.decibel, t.picture) for t in test.trials], seed=1)
    assert [t.photo_is_left for t in again.trials] == [t.photo_is_left for t in test.trials]
    assert len({t.photo_is_left for t in test.trials}) == 2
    assert {(t.kind, t.decibel) for t in test.trials} == {(k, d) for k in ("blur", "noise") for d in (30, 35, 40)}


def test_the_key_gives_full_marks_and_its_opposite_none(test):
    test.answer(test.key())
    assert test.done
    assert all(test.right)
    assert test.share_right() == {k: {d: (1, 1) for d in (30.0, 35.0, 40.0)} for k in ("blur", "noise")}
    wrong = blind.BlindTest(test.photo, [(t.kind, t.decibel, t.picture) for t in test.trials], seed=1)
    wrong.answer(wrong.key().translate(str.maketrans("LR", "RL")).lower())
    assert not any(wrong.right)
    with pytest.raises(ValueError, match="7 answers to 6 questions"):
        wrong.answer("L")


def test_the_photo_stands_where_the_trial_says(test):
    for number, trial in enumerate(test.trials):
        pair = test.pair(number)
        assert pair.shape == (3, 32, 72)
        half = pair[..., :32] if trial.photo_is_left else pair[..., -32:]
        assert torch.equal(half, test.photo)


def test_figures(test):
    plt.close(test.sheet())
    test.answer("LRL")
    figure = test.curve()
    assert figure.axes[0].get_xlabel() == "PSNR (dB)"
    plt.close(figure)


def test_buttons_lead_to_the_curve(test):
    box = test.widget()
    text, picture, buttons = box.children
    assert isinstance(picture, ipywidgets.Image)
    seen = picture.value
    for trial in test.trials:
        buttons.children[0 if trial.photo_is_left else 1].click()
    assert text.value == "6 of 6 right. Your curve:"
    assert picture.value != seen
    buttons.children[0].click()  # hidden, and without effect
    assert len(test.right) == 6


@pytest.mark.parametrize(("found", "asked"), [(0, 3), (3, 3), (2, 5)])
def test_interval_holds_the_share(found, asked):
    low, high = blind.wilson(found, asked)
    assert 0 <= low <= found / asked <= high <= 1
    # its ends solve (share - p)^2 = z^2 p (1 - p) / n
    for p in {low, high} - {0.0, 1.0}:
        assert (found / asked - p) ** 2 == pytest.approx(p * (1 - p) / asked)


def test_a_runner_is_no_person(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert not blind.live_frontend()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_psnr_limits.ipynb")
    assert blind.live_frontend()
