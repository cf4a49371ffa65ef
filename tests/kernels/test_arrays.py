"""Arrays as memory: addresses, borrowed memory, and who keeps it alive."""

import weakref

import numpy as np

from minigan.kernels.runtime.arrays import array_address, array_at, borrow, contiguous_copy


class Owner:
    """Memory that can be watched."""

    def __init__(self):
        self.memory = np.arange(6, dtype=np.float32)


def test_an_array_over_memory_keeps_its_owner_alive():
    owner = Owner()
    watched = weakref.ref(owner)
    x = array_at(array_address(owner.memory), (2, 3), np.dtype("float32"), owner)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert x.flags.writeable
    view = x[1:]
    del owner, x
    assert watched() is not None
    assert view.tolist() == [[3, 4, 5]]
    del view
    assert watched() is None


def test_borrowed_memory_is_the_same_array_and_is_not_kept_alive():
    owner = Owner()
    x = array_at(array_address(owner.memory), (2, 3), np.dtype("float32"), owner).T[::-1]
    interface = borrow(x)
    y = np.asarray(interface)
    assert array_address(y) == array_address(x)
    assert (y.shape, y.strides, y.dtype) == (x.shape, x.strides, x.dtype)
    watched = weakref.ref(owner)
    del owner, x, y
    assert watched() is None


def test_a_contiguous_copy_is_writable_and_new():
    x = np.arange(6).reshape(2, 3).T
    x.flags.writeable = False
    y = contiguous_copy(x)
    assert y.flags.c_contiguous
    assert y.flags.writeable
    assert not np.shares_memory(x, y)
    assert (x == y).all()
