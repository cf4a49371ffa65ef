"""Photos of many sizes, formats and colours become images of one size; each option's values."""

import numpy as np
import pytest
from data_helpers import draw, loaded
from PIL import Image, ImageOps

from minigan.data import DataError, Dataset, load
from minigan.data.image_file import EXCLUDED_FORMATS, formats_by_suffix

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def stored(path, **options):
    data, _ = loaded(path, **options)
    return data.stored


@pytest.fixture
def photos(tmp_path):
    """A folder as people have them; each image is of one colour."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (100, 80), RED).save(folder / "a.PNG")
    Image.new("L", (40, 60), 190).save(folder / "b.jpg")
    palette = Image.new("P", (50, 50), 1)
    palette.putpalette([*BLUE, *GREEN])
    palette.save(folder / "c.png", transparency=1)
    Image.new("CMYK", (64, 64), (0, 0, 0, 0)).save(folder / "d.JPEG", quality=100)
    Image.fromarray(np.full((30, 70), 257 * 99, np.uint16)).save(folder / "e.TIF")
    frames = [Image.new("L", (20, 20), value) for value in (50, 200)]
    frames[0].save(folder / "f.gif", save_all=True, append_images=frames[1:])
    (folder / "g.png").write_bytes((folder / "a.PNG").read_bytes()[:60])
    (folder / "notes.txt").write_text("P5 taken in May")
    return folder


# ------------------------------------------------------------------------------- a mixed folder
def test_every_error_names_the_option_that_goes_on(photos):
    with pytest.raises(DataError, match=r"g\.png: .*; --skip-broken goes on without such files"):
        load(photos, size=8)
    with pytest.raises(
        DataError,
        match=r"images must be of one size: \S+a\.PNG is 100x80, \S+b\.jpg is 40x60; --size 64"
        r" makes them so \(--fit crop, pad or stretch\)$",
    ):
        load(photos, skip_broken=True)


def test_a_mixed_folder_becomes_images_of_one_size(photos):
    data, notes = loaded(photos, size="16x8", skip_broken=True)
    assert data.stored.dtype == np.uint8
    assert data.stored.shape == (6, 3, 8, 16)
    colours = [RED, (190,) * 3, (0,) * 3, WHITE, (99,) * 3, (50,) * 3]
    for image, colour in zip(data.stored, colours, strict=True):
        assert (image == np.reshape(colour, (3, 1, 1))).all()
    assert notes == [
        ": only the first image is used of each file with several: 1 (f.gif)",
        ": images stored as grey and used as RGB, as others have colours: 4"
        " (b.jpg, c.png, e.TIF and 1 more)",
        ": images reduced from 16 bits to 8: 1 (e.TIF)",
        ": images converted to RGB from another colour space, such as CMYK: 1 (d.JPEG)",
        ": images transparent, and blended with the background (--background sets its colour): 1"
        " (c.png)",
        ": images used: 6, not used: 1 that cannot be read (g.png);"
        " 1 not of PNG, JPEG, WEBP, TIFF or another format of Pillow (notes.txt)",
    ]
    values = data.rows([0, 5])
    assert values.dtype == np.float32
    assert values[0, :, 0, 0].tolist() == [1, -1, -1]
    assert values[1, 0, 0, 0] == np.float32(50) / np.float32(127.5) - np.float32(1)


def test_a_folder_of_broken_files_has_no_images(tmp_path):
    for name in ("a.png", "b.tga", "c.qoi"):
        (tmp_path / name).write_text("a report")
    with pytest.raises(DataError, match=r"no images in it .*3 that cannot be read \(a\.png, b"):
        load(tmp_path, skip_broken=True)


def test_a_file_that_breaks_after_its_header_is_skipped_too(tmp_path):
    for name in ("a.bmp", "b.bmp", "c.bmp"):
        draw(tmp_path / name, kind="BMP")
    content = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(content[:-9])
    data, notes = loaded(tmp_path, skip_broken=True)
    assert len(data) == 2
    assert notes == [": images used: 2, not used: 1 that cannot be read (a.bmp)"]


def test_small_images_that_are_enlarged_are_noted(tmp_path):
    draw(tmp_path / "a.png", size=(6, 20))
    draw(tmp_path / "b.png", size=(20, 20))
    for fit, is_noted in (("crop", True), ("stretch", True), ("pad", False)):
        _, notes = loaded(tmp_path, size=8, fit=fit)
        assert notes == [": images smaller than --size, and enlarged: 1 (a.png)"] * is_noted


# ------------------------------------------------------------------------- values, made by hand
WIDE = np.array([[10, 20, 30, 40], [50, 60, 70, 80]])  # 4x2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 2}, [[20, 30], [60, 70]]),
        ({"size": "2x2", "fit": "crop"}, [[20, 30], [60, 70]]),
        ({"size": (4, 4), "fit": "pad"}, [[0] * 4, *WIDE.tolist(), [0] * 4]),
        ({"size": 4, "fit": "pad", "background": "white"}, [[255] * 4, *WIDE, [255] * 4]),
        ({"size": "4X2", "fit": "stretch"}, WIDE),
    ],
)
def test_fit_cuts_or_pads_around_the_middle(tmp_path, options, expected):
    save(tmp_path / "photos" / "a.png", WIDE)
    assert stored(tmp_path / "photos", **options)[0, 0].tolist() == np.array(expected).tolist()
    np.savez(tmp_path / "a.npz", x=WIDE[None].astype(np.uint8))
    assert (stored(tmp_path / "a.npz", value_range=(0, 255), **options)[0, 0] == expected).all()


def test_stretch_keeps_what_crop_cuts_off(tmp_path):
    pixels = np.zeros((8, 16))
    pixels[:, :4] = 255  # the left quarter, which the middle 8x8 does not reach
    save(tmp_path / "a.png", pixels)
    assert not stored(tmp_path, size=8).any()
    stretched = stored(tmp_path, size=8, fit="stretch")[0, 0]
    assert (stretched > 127).tolist() == [[True] * 2 + [False] * 6] * 8


def test_a_smaller_image_is_the_mean_of_what_was_there(tmp_path):
    """Without antialiasing a fine checkerboard would become black or white."""
    save(tmp_path / "a.png", np.indices((64, 64)).sum(0) % 2 * 255)
    inner = stored(tmp_path, size=8)[0, 0, 1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 127.5).max() <= 3


def test_exif_rotation_comes_before_the_crop(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated clockwise by 90 degrees
    save(tmp_path / "a.png", WIDE, exif=exif)
    shown = np.rot90(WIDE, -1)  # 2x4: 50 10 / 60 20 / 70 30 / 80 40
    assert stored(tmp_path)[0, 0].tolist() == shown.tolist()
    assert stored(tmp_path, size=2)[0, 0].tolist() == [[60, 20], [70, 30]]
    assert stored(tmp_path, size="2x4")[0, 0].tolist() == shown.tolist()


def test_grey_is_the_luminance(tmp_path):
    colours = np.array([[RED, GREEN], [BLUE, WHITE]])
    grey = [[76, 150], [29, 255]]  # 0.299 R + 0.587 G + 0.114 B
    save(tmp_path / "photos" / "a.png", colours)
    assert stored(tmp_path / "photos", grey=True).tolist() == [[grey]]
    np.savez(tmp_path / "a.npz", x=colours[None].astype(np.uint8))
    shape = {"sample_shape": (3, 2, 2)}
    assert stored(tmp_path / "a.npz", grey=True, **shape).tolist() == [[grey]]
    np.savez(tmp_path / "b.npz", x=colours[None] / np.float32(127.5) - 1)
    floats = load(tmp_path / "b.npz", grey=True, **shape).values
    assert floats[0, 0] == pytest.approx(np.array(grey) / 127.5 - 1, abs=0.004)


@pytest.mark.parametrize(
    ("background", "expected"),
    [("black", (100, 0, 0)), ("white", (227, 127, 127)), ("#00f", (100, 0, 127))],
)
def test_the_background_is_behind_transparent_pixels(tmp_path, background, expected):
    save(tmp_path / "a.png", [[[200, 0, 0, 128]]])  # half transparent
    pixels = stored(tmp_path, background=background)[0, :, 0, 0].astype(int)
    assert np.abs(pixels - expected).max() <= 1


def test_a_coloured_background_makes_grey_images_coloured(tmp_path):
    save(tmp_path / "a.png", WIDE)
    assert stored(tmp_path, background="red").shape == (1, 1, 2, 4)  # It is not seen.
    padded = stored(tmp_path, background="red", size=4, fit="pad")[0]
    assert padded[:, 0, 0].tolist() == list(RED)
    assert padded[:, 1].tolist() == [WIDE[0].tolist()] * 3
    assert stored(tmp_path, background="red", size=4, fit="pad", grey=True)[0, 0, 0, 0] == 76
    save(tmp_path / "a.png", [[[9, 0], [9, 255]]])  # grey and transparent
    assert stored(tmp_path, background="red")[0, :, 0].tolist() == [[255, 9], [0, 9], [0, 9]]
    assert stored(tmp_path, background="grey")[0, :, 0].tolist() == [[128, 9]]


# ------------------------------------------------------------------------------ arrays and names
def test_floats_are_resized_within_their_range(tmp_path):
    images = np.where(np.indices((2, 3, 8, 8))[3] < 4, -1, 1).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=images)
    data = load(tmp_path / "a.npz", size="16x4", fit="pad", background="white")
    assert (data.stored.dtype, data.sample_shape) == (np.float32, (3, 4, 16))
    assert (data.values.min(), data.values.max()) == (-1, 1)
    assert (data.values[..., :6] == 1).all()  # the padding
    assert data.values[..., 6] == pytest.approx(-1, abs=0.1)


def test_named_images_are_resized_and_points_refused():
    small, usual = load("glyphs", samples=3, size=14), load("glyphs", samples=3)
    expected = [ImageOps.fit(Image.fromarray(x[0]), (14, 14), 1) for x in usual.stored]
    assert np.array_equal(small.stored[:, 0], np.stack(expected))
    for options, name in (({"size": 8}, "size"), ({"grey": True}, "grey")):
        with pytest.raises(DataError, match=f"ring: {name} is for images, and these are points"):
            load("ring", samples=3, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "64x"}, "size = '64x' is neither a number of pixels, such as 64, nor WIDTHx"),
        ({"size": 0}, "size = 0 is neither"),
        ({"size": (1, 2, 3)}, "is neither"),
        ({"size": 2.5}, "size = 2.5 is neither"),
        ({"size": 9, "fit": "zoom"}, r"unknown fit 'zoom' .*crop, pad, stretch"),
        ({"fit": "pad"}, "fit = 'pad' without a size, such as --size 64"),
        ({"background": "redd"}, "background = 'redd' is not an opaque colour"),
        ({"background": "#ffff0080"}, "is not an opaque colour"),
        ({"background": "red"}, "glyphs: background is for a folder of images, or for --size with"),
        ({"skip_broken": True}, "glyphs: skip_broken is for a folder of images"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load("glyphs", samples=3, **options)


def test_channels_without_a_meaning_are_not_made_grey(tmp_path):
    images = np.zeros((2, 4, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=images)
    assert load(tmp_path / "a.npz", size=4, fit="pad").sample_shape == (4, 4, 4)
    with pytest.raises(DataError, match="grey is for images of 1 or 3 channels, not of 4"):
        load(tmp_path / "a.npz", grey=True)
    with pytest.raises(DataError, match="a background that is not grey is for images of 1 or 3"):
        load(tmp_path / "a.npz", size=4, fit="pad", background="red")


# ---------------------------------------------------------------------------------------- formats
@pytest.mark.parametrize(
    "suffix", [".tga", ".qoi", ".jp2", ".avif", ".ico", ".sgi", ".pcx", ".dds"]
)
def test_formats_of_pillow_are_known_by_their_suffix(tmp_path, suffix):
    if formats_by_suffix().get(suffix) not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {suffix}")
    Image.new("RGB", (16, 16), RED).save(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / f"B{suffix.upper()}")
    data, _ = loaded(tmp_path)
    assert data.sample_shape == (3, 16, 16)
    assert data.values[0, :, 8, 8] == pytest.approx([1, -1, -1], abs=0.05)


def test_formats_that_are_no_pictures_are_left_alone(tmp_path):
    draw(tmp_path / "a.png")
    names = ["b.eps", "b.pdf", "b.h5", "b.fits", "b.mpg", "b.wmf", "b.iim", "b.tar"]
    for name in names:
        (tmp_path / name).write_bytes(b"\x00\x00\x02" + bytes(9) + b"\x06\x00\x05\x00\x18\x20")
    data, notes = loaded(tmp_path)
    assert len(data) == 1
    assert f"{len(names)} not of PNG" in notes[0]
    assert not EXCLUDED_FORMATS.keys() & set(formats_by_suffix().values())


# ------------------------------------------------------------------------------------- bytes
def test_bytes_stay_bytes_and_become_the_same_floats():
    pixels = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2) * 5
    data = Dataset("bytes", pixels, [0, 1, 2, 0])
    floats = Dataset("bytes", data.values, data.labels)
    assert np.array_equal(data.values, pixels / np.float32(127.5) - np.float32(1))
    assert (data.stored.dtype, floats.stored.dtype) == (np.uint8, np.float32)
    assert data.digest() == floats.digest()
    for part, other in zip(data.holdout(0.25), floats.holdout(0.25), strict=True):
        assert np.shares_memory(part.stored, data.stored)
        assert part.digest() == other.digest()
        assert np.array_equal(part.subset([0]).values, other.subset([0]).values)
    nested = data.subset([3, 2, 1]).subset([2, 0])
    assert np.array_equal(nested.values, data.values[[1, 3]])
    assert nested.labels.tolist() == [1, 0]
    assert len(nested) == 2


def test_bytes_of_0_and_1_get_a_warning():
    with pytest.warns(match="all bytes are 0 or 1, which is nearly black"):
        Dataset("masks", np.ones((2, 1, 4, 4), np.uint8)).warn_of_range()
