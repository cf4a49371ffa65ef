"""Damaged and malicious files: no change is accepted, no memory is taken, nothing hangs."""

import gzip
import io
import os
import struct
import warnings
import zipfile

import numpy as np
import pytest
from data_helpers import peak_below
from idx_files import DIGITS, IMAGE_FILE, IMAGES, LABELS, idx, put
from PIL import Image
from run_helpers import refused

from minigan.data import DataError, load
from minigan.data.mnist import read_idx

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 5, 5), np.uint8)
POINTS = RNG.standard_normal((20, 2))


def npz(compress=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file.getvalue()


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(header, data=b""):
    header = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def digest(path):
    return load(path).digest()


# ------------------------------------------------------------------------------------------- bits
CASES = {
    "npz": (npz(x=PIXELS, y=np.arange(3), meta=np.zeros(2)), "a.npz", digest),
    "npz-compressed": (npz(True, x=PIXELS, y=np.arange(3)), "a.npz", digest),
    "npz-points": (npz(x=np.asfortranarray(POINTS.astype(">f4"))), "a.npz", digest),
    "png": (png(RNG.integers(0, 256, (6, 7, 3), np.uint8)), "folder/a.png", digest),
    "idx": (
        gzip.compress(idx(np.where(RNG.random((2, 28, 28)) < 0.1, 200, 0)), mtime=0),
        "images",
        lambda path: read_idx(path, "images").tobytes(),
    ),
}


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path, case):
    content, name, read = CASES[case]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    root = path.parent if case == "png" else path
    whole = read(root)
    refusals = []
    for bit in RNG.choice(8 * len(content), 300, replace=False):
        flipped = bytearray(content)
        flipped[bit >> 3] ^= 1 << (bit & 7)
        path.write_bytes(flipped)
        try:
            assert read(root) == whole, bit
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert all(str(path) in text and text.isprintable() for text in refusals)


def test_no_member_is_lost(tmp_path):
    """A bit in a length of the central directory hides the members after it from zipfile."""
    content = npz(x=PIXELS, y=np.arange(3), meta=np.zeros(2))
    start = content.index(b"PK\1\2")
    for offset in range(28, 34):  # the lengths of the name, the extra field and the comment
        for bit in range(8):
            flipped = bytearray(content)
            flipped[start + offset] ^= 1 << bit
            (tmp_path / "a.npz").write_bytes(flipped)
            with pytest.raises(DataError, match=r"a\.npz: not an \.npz that can be read"):
                load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("old", "new"),
    [("(20, 2)", "(2, 20)"), ("False", "True "), ("'<f8'", "'>f8'"), ("(20, 2)", "(10, 2)")],
)
def test_a_changed_header_is_refused(tmp_path, old, new):
    content = npz(x=POINTS)
    (tmp_path / "a.npz").write_bytes(content.replace(old.encode(), new.encode(), 1))
    with pytest.raises(DataError, match=r"Bad CRC-32|declares"):
        load(tmp_path / "a.npz")


def test_arrays_of_another_length(tmp_path):
    file = io.BytesIO()
    np.save(file, POINTS)
    for content in (file.getvalue() + b"\0", file.getvalue()[:-8]):
        with pytest.raises(DataError, match=r"x has .* bytes, its header declares 448"):
            load(archive(tmp_path / "a.npz", x=content))


def test_two_members_of_the_same_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for shift in (0, 1):
            member = io.BytesIO()
            np.save(member, POINTS + shift)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file.writestr("x.npy", member.getvalue())
    with pytest.raises(DataError, match="two members have the same name"):
        load(tmp_path / "a.npz")


# ------------------------------------------------------------------------------------------ memory
def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    header = bytes([0, 0, 8, 3]) + struct.pack(">III", 10, 28, 28)
    put(tmp_path, gzip.compress(header + bytes(1 << 26), 1), idx(DIGITS[:10]))
    with peak_below(2), pytest.raises(DataError, match=f"{IMAGES}: has trailing bytes"):
        load("mnist", data_dir=tmp_path)


def test_a_header_of_idx_takes_no_memory(tmp_path):
    header = bytes([0, 0, 8, 3]) + struct.pack(">III", 2**32 - 1, 28, 28)
    put(tmp_path, header, idx(DIGITS))
    with peak_below(2), pytest.raises(DataError, match=f"{IMAGES}: .*the limit is max_gb = 2; "):
        load("mnist", data_dir=tmp_path)
    put(tmp_path, header[:4] + struct.pack(">III", 2**24, 28, 28), idx(DIGITS))
    with peak_below(2), pytest.raises(DataError, match=f"{IMAGES}: truncated"):
        load("mnist", data_dir=tmp_path, max_gb=100)


def test_members_that_are_not_needed_are_not_unpacked(tmp_path):
    content = npz(True, x=POINTS, meta=np.zeros(1 << 23))
    (tmp_path / "a.npz").write_bytes(content)
    with peak_below(2), pytest.warns(match="arrays not used: meta"):
        assert len(load(tmp_path / "a.npz")) == 20


def test_a_header_of_npy_takes_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    for shape in ("(1000000000, 4)", f"({10**30}, 4)", "(-1, 4)", "(2.5, 4)"):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        with peak_below(2), pytest.raises(DataError, match=r"a\.npz: not an \.npz"):
            load(archive(path, x=npy(text, bytes(16))))
    path.write_bytes(npz(True, x=np.zeros((60, 1, 600, 600), np.uint8)))
    with peak_below(2), pytest.raises(DataError, match=r"max_gb = 0\.01; --max-gb 1 raises it"):
        load(path, max_gb=0.01)
    assert len(load(path, max_gb=0.03)) == 60


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_numpy_packs_is_unpacked(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as file:
        file.writestr("x.npy", b"any")
    with pytest.raises(DataError, match="has a compression that numpy never uses"):
        load(tmp_path / "a.npz")


def test_the_size_of_an_image_is_compared_before_it_is_decoded(tmp_path, monkeypatch):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(np.full((20, 30), 200, np.uint8)))
    (tmp_path / "9.png").write_bytes(png(np.zeros((3000, 3000), np.uint8)))
    with peak_below(2), pytest.raises(DataError, match=r"0\.png is 30x20, .*9\.png is 3000x3000"):
        load(tmp_path)
    (tmp_path / "9.png").unlink()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)  # Above it Pillow only warns.
    with pytest.raises(DataError, match=r"0\.png: .*exceeds limit of 599 pixels"):
        load(tmp_path)


@pytest.mark.parametrize(("name", "size"), [("ring", 10**11), ("glyphs", 10**7)])
def test_the_size_of_a_generated_set_has_a_limit(name, size):
    with pytest.raises(DataError, match=f"{name}: {size} x .* the limit is max_gb = 2; --max-gb"):
        load(name, samples=size)


# ------------------------------------------------------------------------------- not regular files
@pytest.mark.parametrize("name", ["a.npz", "a"])
def test_a_named_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    complaint = refused("train", "--data", tmp_path / name, "--steps", 1)
    assert f"{name}: it is a named pipe, not a regular file" in complaint


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(tmp_path, path):
    (tmp_path / "a.npz").symlink_to(path)
    for data in (path, tmp_path / "a.npz"):
        with pytest.raises(DataError, match="is a device, not a regular file"):
            load(data)


def test_control_characters_in_names_are_escaped(tmp_path):
    path = tmp_path / "a\x1b[31m.png"
    path.write_text("text")
    assert r"a\x1b[31m.png: not an image" in refused("train", "--data", tmp_path)


def test_impossible_paths_are_one_line():
    assert "~nobody-of-this-name/a.npz: " in refused(
        "train", "--data", "~nobody-of-this-name/a.npz"
    )
    assert "File name too long" in refused("train", "--data", "x" * 300 + ".npz")


# ----------------------------------------------------------------------------------- random damage
@pytest.mark.filterwarnings("ignore")
def test_random_damage_ends_in_one_line(tmp_path):
    """Bytes are cut, repeated, swapped or replaced; `load` returns or raises a documented error."""
    sources = {
        "a.npz": npz(x=PIXELS, y=np.arange(3)),
        "b.npz": npz(True, x=POINTS),
        "c/a.png": png(PIXELS[0]),
        f"d/{IMAGES}": gzip.compress(IMAGE_FILE),
    }
    for name, content in sources.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        refusals = []
        for trial in range(60):
            at, length = RNG.integers(len(content)), int(RNG.integers(1, 40))
            middle = {
                0: b"",
                1: content[at : at + length] * 3,
                2: RNG.bytes(length),
                3: b"\xff" * length,
            }[trial % 4]
            path.write_bytes(content[:at] + middle + content[at + length :])
            if name.startswith("d/"):
                (tmp_path / "d" / LABELS).write_bytes(idx(DIGITS))
            try:
                if name.startswith("d/"):
                    load("mnist", data_dir=tmp_path / "d")
                else:
                    load(path if name.endswith("npz") else path.parent)
            except DataError as error:
                refusals.append(str(error))
        assert len(refusals) > 30
        assert all(str(path) in text and text.isprintable() for text in refusals)
