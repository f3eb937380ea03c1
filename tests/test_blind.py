"""The blind test: its order, its answers, its curve, and where it takes a person to be."""

import pytest
import torch

from course import blind


@pytest.fixture
def test():
    photo = torch.zeros(3, 32, 32)
    distorted = [(kind, decibel, photo + 0.1) for kind in ("blur", "noise") for decibel in (30.0, 35.0, 40.0)]
    return blind.BlindTest(photo, distorted, seed=1)


def test_the_photo_stands_where_the_trial_says_and_each_question_has_an_answer(test):
    for number, trial in enumerate(test.trials):
        pair = test.pair(number)
        assert pair.shape == (3, 32, 72)
        half = pair[..., :32] if trial.photo_is_left else pair[..., -32:]
        assert torch.equal(half, test.photo)
    again = blind.BlindTest(test.photo, [(t.kind, t.decibel, t.picture) for t in reversed(test.trials)], seed=1)
    assert again.key() == test.key(), "the sides follow the seed"
    with pytest.raises(ValueError, match="7 answers to 6 questions"):
        test.answer(test.key() + "L")
    assert test.sheet().get_size_inches().tolist() == [4.64, 1.78]  # two rows of three pairs at twice their size


def test_the_curve_shows_shares_with_intervals_that_hold_them(test):
    test.trials = [trial._replace(kind="blur", decibel=30.0 + 5 * (i > 2)) for i, trial in enumerate(test.trials)]
    first, *rest = test.key().replace(" ", "")
    test.answer("".join([{"L": "R", "R": "L"}[first], *rest]))  # 2 of 3 at 30 dB, 3 of 3 at 35 dB
    axis = test.curve().axes[0]
    (bars,) = axis.containers
    assert bars[0].get_xydata().tolist() == [[30, 2 / 3], [35, 1]]
    for (_, share), ((_, low), (_, high)) in zip(bars[0].get_xydata(), bars[2][0].get_segments()):
        assert 0 <= low < share <= high <= 1
        # Wilson's ends solve (share - p)^2 = z^2 p (1 - p) / n, with z = 1
        assert (share - low) ** 2 == pytest.approx(low * (1 - low) / 3, rel=1e-3)


def test_buttons_lead_to_the_curve(test):
    text, picture, buttons = test.widget().children
    seen = picture.value
    for trial in test.trials:
        buttons.children[0 if trial.photo_is_left else 1].click()
    assert text.value == "6 of 6 right. Your curve:"
    assert picture.value != seen
    buttons.children[0].click()  # hidden, and without effect
    assert len(test.right) == 6


def test_a_runner_is_no_person(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert not blind.live_frontend()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_psnr_limits.ipynb")
    assert blind.live_frontend()
