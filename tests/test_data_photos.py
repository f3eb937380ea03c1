"""Bad and odd photos: each is read rightly, or refused with its reason."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.data import Store, open_store
from srlib.data.decode import BadPhoto, SmallPhoto, center, lecture, square
from srlib.data.folders import find_source
from srlib.data.opening import open_source
from srlib.errors import DataError

WIDTH, HEIGHT = 240, 200


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth, in colour, and different at each of its corners."""
    y, x = np.mgrid[0 : height - 1 : height * 1j, 0 : width - 1 : width * 1j]
    red, green, blue = 255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 30)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def expected(image: Image.Image) -> np.ndarray:
    """The rule in one line: the middle square, by antialiased bicubic."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.convert("RGB").crop((left, top, left + side, top + side))
    middle = middle.resize((176, 176), Image.Resampling.BICUBIC)
    return np.asarray(middle).transpose(2, 0, 1)


def assert_close(found: np.ndarray, wanted: np.ndarray, levels: int) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= levels


# --- read rightly ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG"])
def test_common_formats(kind: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    image = picture().convert("P").convert("RGB") if kind == "GIF" else picture()
    assert_close(square(encoded(image, kind, **options)), expected(image), 3 if kind == "JPEG" else 0)


def test_a_square_of_the_right_size_is_not_resampled() -> None:
    image = picture(176, 176)
    assert_close(square(encoded(image, "PNG")), np.asarray(image).transpose(2, 0, 1), 0)


def test_large_jpegs_are_decoded_smaller_with_the_same_result() -> None:
    image = picture(3000, 2000)
    assert_close(square(encoded(image, "JPEG", quality=95)), expected(image), 3)


def test_gray() -> None:
    image = picture().convert("L")
    found = square(encoded(image, "PNG"))
    assert_close(found, expected(image), 0)
    assert (found[0] == found[2]).all()


def test_black_and_white() -> None:
    image = picture().convert("1")
    assert_close(square(encoded(image, "PNG")), expected(image), 0)


def test_cmyk() -> None:
    image = picture().convert("CMYK")
    assert_close(square(encoded(image, "JPEG", quality=100, subsampling=0)), expected(image), 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_and_not_cut_off(kind: str) -> None:
    gray = picture().convert("L")
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    assert_close(square(encoded(image, kind)), expected(gray), 0)


def test_32_bit_floats_of_the_usual_range() -> None:
    gray = picture().convert("L")
    image = Image.fromarray(np.asarray(gray).astype(np.float32) / 255)
    assert_close(square(encoded(image, "TIFF")), expected(gray), 0)


def test_transparency_shows_white() -> None:
    image = picture().convert("RGBA")
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, : WIDTH // 2] = 0
    image.putalpha(Image.fromarray(alpha))
    found = square(encoded(image, "PNG"))
    assert (found[:, :, :80] == 255).all()
    assert_close(found[:, :, 96:], expected(picture())[:, :, 96:], 0)


def test_a_palette_with_a_transparent_colour_shows_white() -> None:
    image = Image.new("P", (200, 200), 1)
    image.putpalette([0, 0, 0, 200, 30, 40])
    image.paste(0, (0, 0, 100, 200))
    found = square(encoded(image, "PNG", transparency=0))
    assert found[:, 88, 20].tolist() == [255, 255, 255]
    assert found[:, 88, 150].tolist() == [200, 30, 40]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    turned = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # what the camera did: the inverse of what we do
    upright = picture(200, 200)
    stored = upright if turned is None else upright.transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    assert_close(square(encoded(stored, kind, exif=exif, **options)), expected(upright), 4)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    first, second = Image.new("RGB", (200, 200), (200, 30, 40)), Image.new("RGB", (200, 200), (10, 90, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    found = square(encoded(first, kind, save_all=True, append_images=[second], duration=100, **options))
    assert found[:, 100, 100].tolist() == [200, 30, 40]


# --- refused with a reason ------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG whose header speaks of 10 gigapixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def cut_short(kind: str) -> bytes:
    whole = encoded(picture(), kind)
    return whole[: len(whole) // 2]


def broken_checksum() -> bytes:
    whole = bytearray(encoded(picture(), "PNG"))
    whole[60] ^= 0xFF
    return bytes(whole)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"this is no picture at all", "not an image"),
    "zeros": (lambda: bytes(5000), "not an image"),
    "truncated JPEG": (lambda: cut_short("JPEG"), "truncated"),
    "truncated PNG": (lambda: cut_short("PNG"), "truncated|broken"),
    "truncated GIF": (lambda: cut_short("GIF"), "truncated|broken"),
    "truncated WEBP": (lambda: cut_short("WEBP"), "broken|not an image"),
    "header alone": (lambda: encoded(picture(), "JPEG")[:300], "truncated|broken|not an image"),
    "checksum": (broken_checksum, "broken"),
    "bomb": (bomb, "89 megapixels"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
    "32-bit integers": (
        lambda: encoded(Image.fromarray(np.full((200, 200), 10**6, np.int32)), "TIFF"), "mode I with values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")  # Pillow remarks on some of these; a build silences it
def test_refused_with_a_reason(name: str) -> None:
    make, reason = REFUSED[name]
    for rule in (square, center, lecture):
        with pytest.raises(BadPhoto, match=reason if rule is square else "."):
            rule(make())


def test_a_photo_just_above_the_limit_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = encoded(picture(), "PNG")
    monkeypatch.setattr("srlib.data.decode.MAX_PIXELS", WIDTH * HEIGHT - 1)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    with pytest.raises(BadPhoto, match="240x200"):
        square(photo)


def test_too_small() -> None:
    with pytest.raises(SmallPhoto, match="300x175"):
        square(encoded(picture(300, 175), "PNG"))


def test_celeba_takes_no_other_size() -> None:
    with pytest.raises(BadPhoto, match="240x200, but CelebA's aligned photos are 178x218"):
        center(encoded(picture(), "JPEG"))


# --- the two crops of CelebA ----------------------------------------------------------------------------


def test_center_is_the_middle_without_resampling() -> None:
    face = picture(178, 218)
    assert_close(center(encoded(face, "PNG")), np.asarray(face)[21:197, 1:177].transpose(2, 0, 1), 0)


def test_both_decoders_agree_to_the_last_bit() -> None:
    jpeg = encoded(picture(178, 218), "JPEG", quality=80)
    with Image.open(io.BytesIO(jpeg)) as image:
        wanted = np.asarray(image)[21:197, 1:177].transpose(2, 0, 1)
    assert_close(center(jpeg), wanted, 0)


def test_lecture_is_plain_bilinear_from_178_rows() -> None:
    import torch
    from torch.nn import functional

    face = picture(178, 218)
    middle = torch.from_numpy(np.asarray(face)[20:198].transpose(2, 0, 1).astype(np.float64))
    wanted = functional.interpolate(middle[None], size=(176, 176), mode="bilinear")[0].round().numpy()
    assert_close(lecture(encoded(face, "PNG")), wanted, 1)  # 1: halves may fall either way


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
def test_celeba_in_other_modes(mode: str) -> None:
    face = picture(178, 218).convert(mode)
    kind = "PNG" if mode == "RGBA" else "JPEG"
    wanted = np.asarray(face.convert("RGB"))[21:197, 1:177].transpose(2, 0, 1)
    assert_close(center(encoded(face, kind, **({} if kind == "PNG" else {"quality": 100}))), wanted, 4)


# --- in a folder ----------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder of ten sound photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        picture(200 + i, 190).save(folder / f"good{i}.png")
    return folder


def opened(folder: Path, max_bad: float = 50) -> Store:
    return open_store(folder, folder.parent / "runs", max_bad=max_bad)


def test_bad_photos_are_listed_by_name_with_the_reason(good: Path, capsys: pytest.CaptureFixture) -> None:
    (good / "empty.jpg").write_bytes(b"")
    (good / "cut.jpg").write_bytes(cut_short("JPEG"))
    store = opened(good)
    assert len(store) == 10
    assert set(store.bad) == {"empty.jpg", "cut.jpg"}
    out = capsys.readouterr().out
    assert "2 unreadable" in out
    assert "empty.jpg: empty file" in out
    assert "2 unreadable" in store.describe()


def test_a_wrong_extension_does_not_matter(good: Path) -> None:
    picture().save(good / "really_a_png.jpg", "PNG")
    picture(300, 200).save(good / "no_extension", "JPEG")
    picture(400, 200).save(good / "photo.dat", "WEBP")
    store = opened(good)
    assert {"really_a_png.jpg", "no_extension", "photo.dat"} <= set(store.names)
    assert not store.bad


def test_more_than_one_percent_bad_stops_with_the_list(good: Path) -> None:
    (good / "notes.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"1 of 11 photos are bad, more than 1 %") as error:
        open_store(good, good.parent / "runs")
    assert "notes.jpg: not an image" in str(error.value)
    assert "--max-bad 10" in str(error.value)
    store = opened(good, max_bad=10)
    assert len(store) == 10
    assert len(open_store(good, good.parent / "runs")) == 10, "what was accepted once stays accepted"


def test_a_long_list_goes_to_a_file(good: Path, capsys: pytest.CaptureFixture) -> None:
    for i in range(30):
        (good / f"bad{i:02d}.jpg").write_bytes(b"")
    opened(good, max_bad=90)
    out = capsys.readouterr().out
    assert "and 10 more" in out
    (whole,) = (good.parent / "runs" / "stores").glob("*unreadable.txt")
    assert len(whole.read_text().splitlines()) == 30


def test_unreadable_files(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def guarded(path: object, *args: object, **options: object) -> int:
        if str(path).endswith("good3.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", guarded)
    store = opened(good)
    assert store.bad == {"good3.png": "cannot be read: Permission denied"}
    assert len(store) == 9


def test_a_file_that_changes_meanwhile(good: Path) -> None:
    source = find_source(good)
    picture(300, 300).save(good / "good3.png")
    store = open_source(source, good.parent / "runs", "center", max_bad=50)
    assert store.bad == {"good3.png": "changed while the store was being built"}
    assert not opened(good).bad, "the next look at the folder finds another folder"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps permissions elsewhere")
def test_permission_granted_later_is_noticed(good: Path) -> None:
    before = opened(good)
    (good / "good3.png").chmod(0o600)
    after = opened(good)
    assert after.images.filename != before.images.filename
    assert after.fingerprint == before.fingerprint


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_dangling_links(good: Path) -> None:
    (good / "gone.jpg").symlink_to(good / "nowhere.jpg")
    store = opened(good)
    assert store.bad == {"gone.jpg": "a link to nothing"}


@pytest.mark.skipif(os.name == "nt", reason="no named pipes in folders on Windows")
def test_what_is_no_file_is_not_waited_for(good: Path) -> None:
    os.mkfifo(good / "pipe.jpg")
    assert opened(good).bad == {"pipe.jpg": "neither a file nor a folder"}


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are always Unicode here")
def test_names_that_are_no_utf8(good: Path, capsys: pytest.CaptureFixture) -> None:
    name = os.fsencode(good) + b"/caf\xe9"
    picture(222, 200).save(open(name + b".png", "wb"), "PNG")  # noqa: SIM115
    with open(name + b"-bad.png", "wb"):
        pass
    store = opened(good)
    assert os.fsdecode(b"caf\xe9.png") in store.names
    assert "caf\\xe9-bad.png: empty file" in capsys.readouterr().out
    again = opened(good)
    assert again.names == store.names


def test_small_photos_are_counted_and_are_not_bad(good: Path) -> None:
    picture(100, 300).save(good / "small.png")
    store = open_store(good, good.parent / "runs")
    assert store.skipped == {"small.png": "100x300, the shorter side is below 176"}
    assert not store.bad


def test_one_file_under_two_names_is_taken_once(good: Path) -> None:
    (good / "later").mkdir()
    (good / "later" / "copy.png").write_bytes((good / "good0.png").read_bytes())
    store = opened(good)
    assert store.skipped == {"later/copy.png": "the same file as another photo"}


def test_a_folder_of_unusable_photos(tmp_path: Path) -> None:
    picture(50, 50).save(tmp_path / "tiny.png")
    with pytest.raises(ValueError, match=r"no usable photos.*50x50"):
        open_store(tmp_path, tmp_path / "runs")
