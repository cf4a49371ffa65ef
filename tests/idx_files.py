"""A small MNIST in IDX files, for the tests that find, break and download it."""

import gzip

import numpy as np

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array):
    shape = np.array(array.shape, ">i4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
DIGITS = np.arange(12) % 10
IMAGE_FILE, LABEL_FILE = idx(PIXELS), idx(DIGITS)
PACKED = gzip.compress(IMAGE_FILE, mtime=0)


def put(folder, images=IMAGE_FILE, labels=LABEL_FILE, names=(IMAGES, LABELS)):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(names, (images, labels), strict=True):
        if content is not None:
            (folder / name).write_bytes(content)


def assert_ours(data):
    assert data.values.shape == (12, 1, 28, 28)
    np.testing.assert_array_equal(np.rint((data.values[:, 0] + 1) * 127.5), PIXELS)
    np.testing.assert_array_equal(data.labels, DIGITS)
    assert data.classes == 10
