"""The CUDA devices as a whole: training, random bits, full and coalesced launches."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import CUDA_DEVICES, needs_compiler
from helpers import FLOATS, LAYOUTS, run

import minigan as mg
from minigan.engine.cuda import CudaDevice
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.engine.update import Update
from minigan.gan.presets import PRESETS
from minigan.kernels.matmul import cuda as matmul
from minigan.kernels.matmul.cuda import plan
from minigan.kernels.optimizer import cuda as optimizer
from minigan.kernels.reduce import cuda as reduce
from minigan.kernels.runtime import recording
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.training.config import Config
from minigan.training.trainer import Trainer


# ------------------------------------------------------------------------------------- training
def _rows(num_steps, **options):
    trainer = Trainer(Config(holdout=0.5, **options))
    return [trainer.step() for _ in range(num_steps)], trainer


@CUDA_DEVICES
def test_training_agrees_with_the_cpus(device):
    """The noise has the same bits; the losses agree to 1e-5."""
    options = {"data": "ring", "samples": 4000, "seed": 5}
    noise, rows = [], []
    for name in (device, "cpu"):
        metrics, trainer = _rows(20, **options, device=name)
        with mg.random.use_generator(trainer.random):
            noise.append(trainer.players.latent(64).numpy().tobytes())  # the next step's
        rows.append(metrics)
    assert noise[0] == noise[1]
    for a, b in zip(*rows, strict=True):
        for name in ("loss_d", "loss_g"):
            assert a[name] == pytest.approx(b[name], rel=1e-5)


@pytest.mark.slow
@CUDA_DEVICES
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(device, preset):
    """A loss that is a difference of means is compared relative to the logits, of size about 1.

    Where a gradient is zero but for rounding, as that of D's last bias under a Wasserstein or
    relativistic loss, Adam turns the sign of the rounding into a step of the learning rate, up or
    down. So after the first step a weight of each net may be two rates apart, and the loss with it.
    (On the CPU alone, photos-64's second loss of G is 6.4438 or 6.4406, as its initial weights are
    changed by one rounding; the rates are 0.001.)
    """
    options = {"samples": 300, **PRESETS[preset].options, "batch": 16}
    result, trainer = _rows(2, **options, device=device)
    expected, _ = _rows(2, **options, device="cpu")
    rates = 2 * (trainer.config.lr_g + trainer.config.lr_d)
    for a, b, bound in zip(result, expected, (1e-3, max(1e-3, rates)), strict=True):
        for name in ("loss_d", "loss_g"):
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=bound)


@CUDA_DEVICES
def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(device, tmp_path):
    options = {"data": "ring", "samples": 1000, "batch": 32, "device": device}
    straight, _ = _rows(4, **options)
    _, first = _rows(2, **options)
    tensors, info = first.state()
    second = Trainer(Config(holdout=0.5, **options))
    second.load_state(tensors, info)
    assert [second.step() for _ in range(2)] == straight[2:]


@CUDA_DEVICES
def test_every_op_and_update_has_a_kernel(device):
    names = {*Op.registry, *Update.registry}
    assert set(get_device(device).kernels) == names
    assert all(get_device(device).kernel_kind(name) == "CUDA" for name in names)


@needs_compiler
def test_an_op_without_a_kernel_raises(make_op):
    op = make_op("without_a_kernel", np.negative, (None,), [])
    x = mg.tensor([1.0], device="cuda-emulator")
    with pytest.raises(
        NotImplementedError, match="cuda-emulator device has no kernel for 'without"
    ):
        op(x)


INTEGERS_AND_BOOLS = [
    *(lambda m, i: m + m, lambda m, i: m * m, lambda m, i: m + 1, lambda m, i: 2 * m),
    *(lambda m, i: i * i - 2, lambda m, i: -i, lambda m, i: abs(i), lambda m, i: mg.ops.sign(i)),
    *(lambda m, i: i > 0, lambda m, i: mg.ops.equal(m, True), lambda m, i: mg.ops.not_equal(i, 3)),
    *(lambda m, i: mg.ops.where(m, 1.0, 0.0), lambda m, i: mg.ops.where(m, i, 0)),
    *(lambda m, i: mg.ops.where(m, m, 0), lambda m, i: m.sum(), lambda m, i: i.sum(axis=0)),
    *(lambda m, i: i.max(), lambda m, i: m.max(axis=1), lambda m, i: i.to("float32")),
    *(lambda m, i: m.to("float64"), lambda m, i: i.reshape(3, 2).T.reshape(6)),
    *(lambda m, i: mg.ops.concatenate([i, i]), lambda m, i: mg.ops.pad(m, [(1, 1), (0, 2)])),
]


@CUDA_DEVICES
@pytest.mark.parametrize("f", INTEGERS_AND_BOOLS, ids=range(len(INTEGERS_AND_BOOLS)))
def test_integers_and_bools_agree_with_the_reference_device(device, f):
    results = []
    for name in (device, "reference"):
        m = mg.tensor([[True, False, True], [False, False, True]], device=name)
        i = mg.tensor([[3, -4, 2**53 + 1], [0, 7, -9]], device=name)
        results.append(f(m, i).numpy())
    result, expected = results
    assert result.dtype == expected.dtype
    assert np.array_equal(result, expected)


@CUDA_DEVICES
def test_operations_that_numpy_refuses_for_bools_raise(device):
    m = mg.tensor([True, False], device=device)
    for f in (lambda: -m, lambda: m - m, lambda: mg.ops.sign(m)):
        with pytest.raises(TypeError, match="bool tensors are not accepted; convert with"):
            f()


# ------------------------------------------------------------------------------- random numbers
DRAWS = {
    "random_uniform": {"low": -0.3, "high": 2.7},
    "random_normal": {},
    "random_laplace": {},
    "random_bernoulli": {"p": 0.37},
}


@CUDA_DEVICES
@pytest.mark.parametrize("name", DRAWS)
@FLOATS
def test_random_numbers_have_the_bits_of_their_reference(device, name, dtype):
    counter = (np.array([2**32 - 3]), np.array([-5]))  # the block number carries into word 1
    for size in (0, 1, 2, 3, 4, 5, 511, 513, 10007):
        attributes = {"stream": -7, "shape": (size,), "dtype": np.dtype(dtype), **DRAWS[name]}
        expected = Op.registry[name].reference(*counter, **attributes)
        result = run(device, Op.registry[name], counter, attributes)
        assert (result.dtype, result.tobytes()) == (expected.dtype, expected.tobytes())


@CUDA_DEVICES
def test_permutations_equal_their_reference(device):
    op, counter = Op.registry["random_permutation"], (np.array([9]), np.array([3]))
    for n in (0, 1, 2, 5, 513):
        expected = op.reference(*counter, stream=-2, n=n)
        assert np.array_equal(run(device, op, counter, {"stream": -2, "n": n}), expected)


# ------------------------------------------------------------------------------------- adjoints
def _adjoints():
    """Yield op, shapes, attributes, and the op and the attributes of the adjoint of input 0."""
    half = (slice(1, 8), slice(None, None, 2))
    back = {"shape": (9, 10), "index": half, "value": 0.0}
    yield "slice", ((9, 10),), {"index": half}, "slice_scatter", back
    yield "transpose", ((5, 6, 7),), {"axes": (2, 0, 1)}, "transpose", {"axes": (1, 2, 0)}
    yield "reshape", ((6, 35),), {"shape": (14, 15)}, "reshape", {"shape": (6, 35)}


@CUDA_DEVICES
@FLOATS
def test_linear_kernels_and_their_adjoints(device, dtype, rng):
    """<A x, y> == <x, A^T y>, to rounding."""
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    bound = 64 * float(np.finfo(dtype).eps)
    for name, (shape,), attributes, back, back_attributes in _adjoints():
        x = draw(*shape)
        ax = run(device, Op.registry[name], [x], attributes)
        y = draw(*ax.shape)
        aty = run(device, Op.registry[back], [y], back_attributes)
        assert np.vdot(ax, y) == pytest.approx(np.vdot(x, aty), abs=bound * x.size), name
    x, y, i = draw(6, 5), draw(9, 5), rng.integers(0, 6, (9, 5))
    gathered = run(device, Op.registry["gather"], [x, i], {"axis": 0})
    scattered = run(device, Op.registry["scatter_add"], [y, i], {"axis": 0, "size": 6})
    assert np.vdot(gathered, y) == pytest.approx(np.vdot(x, scattered), abs=bound * y.size)
    a, x, y = draw(37, 65), draw(65, 19), draw(37, 19)
    ax = run(device, Op.registry["matmul"], [a, x], {})
    aty = run(device, Op.registry["matmul"], [a.T, y], {})
    assert np.vdot(ax, y) == pytest.approx(np.vdot(x, aty), abs=bound * a.size * 19)
    total = run(device, Op.registry["sum"], [a], {"axis": (0,), "keepdims": False})
    y = draw(65)
    repeated = run(device, Op.registry["broadcast_to"], [y], {"shape": a.shape})
    assert np.vdot(total, y) == pytest.approx(np.vdot(a, repeated), abs=bound * a.size)


# ----------------------------------------------------------------------- parallel and coalesced
class Recorder(Emulator):
    """Records launches instead of running them."""

    def __init__(self):
        super().__init__()
        self.launches = []

    def _prepare(self, source, kernel, dtype, grid, block, arguments, shared_bytes):
        self.launches.append((kernel, math.prod(grid), math.prod(block)))
        return lambda describe: None


def _calls(edge, dtype):
    """Return (name, arrays, attributes) of each kernel at edge x edge."""
    square = lambda: np.empty((edge, edge), dtype)  # noqa: E731
    mask, indices = np.zeros((edge, edge), bool), np.zeros((edge, edge), np.int64)
    counter = (np.zeros(1, np.int64), np.zeros(1, np.int64))
    draw = {"stream": 1, "shape": (edge, edge), "dtype": np.dtype(dtype)}
    reduction = {"keepdims": False}
    half = {"shape": (edge, edge), "index": (slice(0, edge // 2),), "value": 0.0}
    return [
        ("leaky_relu", [square()], {"slope": 0.2}),
        ("add", [square(), square()], {}),
        ("multiply", [square(), square()[0]], {}),
        ("where", [mask, square(), 0.0], {}),
        ("greater", [square(), square()], {}),
        ("cast", [square()], {"dtype": np.dtype("float64")}),
        *(("sum", [square()], {"axis": axis, **reduction}) for axis in [(0,), (1,), (0, 1)]),
        ("max", [square()], {"axis": (0,), **reduction}),
        ("reshape", [square().T], {"shape": (edge * edge,)}),
        ("slice_scatter", [square()[: edge // 2]], half),
        ("concatenate", [square()[: edge // 2], square()[edge // 2 :]], {"axis": 0}),
        ("gather", [square(), indices], {"axis": 0}),
        ("scatter_add", [square(), indices], {"axis": 0, "size": edge}),
        ("matmul", [square(), square()], {}),
        ("matmul", [square(), square().T], {}),
        ("matmul", [square().T, square()], {}),
        ("dense", [square(), square(), square()[0]], {}),
        *((name, counter, {**draw, **more}) for name, more in DRAWS.items()),
    ]


# The last pass of a reduction has little work.
LAST_PASSES = {("sum", 1), ("max", 1)}


@FLOATS
def test_every_kernel_fills_a_gpu(dtype):
    """At 4096 x 4096 at least two blocks, and 256 threads, per multiprocessor of an H200."""
    recorder = Recorder()
    device = CudaDevice("recorder", recorder)
    for name, arrays, attributes in _calls(4096, dtype):
        before = len(recorder.launches)
        device.run(Op.registry[name], tuple(arrays), attributes)
        assert len(recorder.launches) > before, name
        for i, (kernel, blocks, threads) in enumerate(recorder.launches[before:]):
            if (name, min(i, 1)) not in LAST_PASSES:
                assert blocks >= 264, (name, kernel, blocks)
                assert threads >= 64, (name, kernel, threads)
                assert blocks * threads >= 264 * 128, (name, kernel, blocks, threads)


def _adam(gpu, edge, dtype):
    lists = [[gpu.from_numpy(np.full((edge, edge), 0.5, dtype)) for _ in "ab"] for _ in range(4)]
    state = gpu.from_numpy(np.array([1e-3, 1.0, 1.0]))
    optimizer.adam(gpu, *lists, state, 0.9, 0.999, 1e-8, 0.0, False)
    return lists


@FLOATS
def test_an_optimizer_step_is_one_launch_over_all_parameters(dtype):
    recorder = Recorder()
    _adam(recorder, 4096, dtype)
    (coefficients, update) = recorder.launches
    assert coefficients == ("adam_coefficients", 1, 1)
    assert update == ("adam", 2 * 4096**2 * np.dtype(dtype).itemsize // 16 // 256, 64)


def test_more_parameters_than_a_table_holds_take_more_launches():
    recorder, count = Recorder(), 2 * optimizer.CAPACITY + 1
    lists = [[np.ones(3, "f") for _ in range(count)] for _ in range(2)]
    optimizer.sgd(recorder, *lists, [], np.array([0.1]), 0.0, False, 0.0)
    assert [kernel for kernel, *_ in recorder.launches] == ["sgd_coefficients", *["sgd"] * 3]
    gpu = Emulator()
    optimizer.sgd(gpu, *lists, [], np.array([0.25]), 0.0, False, 0.0)
    assert all(p.tolist() == [0.75] * 3 for p in lists[0])


@CUDA_DEVICES
def test_a_recorded_launch_keeps_its_arguments(device, monkeypatch, rng):
    """More matrices than a grid takes need two launches, with one structure that changes."""
    monkeypatch.setattr(matmul, "MAX_GRID_DIM", (2**31 - 1, 65535, 3))
    gpu = get_device(device).launcher
    a, b = (rng.normal(size=(5, 4, 4)) for _ in range(2))
    on_gpu, recorded = [gpu.from_numpy(x) for x in (a, b)], recording.Recording()
    with recording.record(recorded):
        c = matmul.matmul(gpu, *on_gpu)
    assert len(recorded.launches) == 2
    c[...] = 0
    gpu.program(recorded.launches)()
    np.testing.assert_allclose(gpu.to_numpy(c), a @ b, atol=1e-12)


@pytest.mark.slow
@needs_compiler
@FLOATS
def test_memory_is_read_and_written_in_whole_sectors(dtype):
    """Each kernel accesses at most twice the sectors of 32 bytes that its elements fill."""
    gpu = Emulator(checked=True)
    device = CudaDevice("checked", gpu)
    for name, arrays, attributes in _calls(128, dtype):
        inputs = [_zeros_like(x) for x in arrays]
        before = gpu.counts
        device.run(Op.registry[name], tuple(inputs), attributes)
        counts = gpu.counts - before
        assert counts.accesses > 0, name
        assert counts.sectors <= 2 * counts.ideal_sectors, (name, counts)
    before = gpu.counts
    _adam(gpu, 64, dtype)
    counts = gpu.counts - before
    assert counts.sectors <= 2 * counts.ideal_sectors


def _zeros_like(x):
    """Return zeros with the strides of x; numbers as they are."""
    if not isinstance(x, np.ndarray):
        return x
    if not x.flags.c_contiguous:
        return _zeros_like(x.T).T
    return np.zeros(x.shape, x.dtype)


@pytest.mark.slow
@needs_compiler
def test_training_passes_the_checks():
    """Two steps, with dropout, on the checked emulator."""
    device = CudaDevice("cuda-emulator", Emulator(checked=True))
    mg.manual_seed(1)
    with mg.use_device(device):
        net = mg.nn.Sequential(
            mg.nn.Dense(70, 33), mg.nn.LeakyReLU(0.2), mg.nn.Dropout(0.3), mg.nn.Dense(33, 1)
        )
        adam = mg.optim.Adam(net.parameters())
        loss = mg.losses.NonSaturating()
        for _ in range(2):
            logits = net(mg.random.normal((17, 70)))
            adam.step(mg.grad(loss.discriminator(logits[:9], logits[9:]), net.parameters()))
    assert np.isfinite(logits.numpy()).all()


CHECKED = CudaDevice("cuda-emulator", Emulator(checked=True))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("shape", [(1, 3, 2), (5, 17, 7), (33, 40, 65), (70, 200, 36)], ids=str)
@FLOATS
def test_products_of_any_layout_pass_the_checks(shape, dtype, rng):
    """No access is out of bounds, and no vectorized access is misaligned."""
    m, k, n = shape
    a, b, bias = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n), (n,)))
    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            arrays = (left(a), right(b), right(bias))
            y = CHECKED.run(Op.registry["dense"], arrays, {})
            assert np.allclose(y, a @ b + bias, rtol=1e-4, atol=1e-4)
    pairs = np.ones((3, m, k), dtype), np.ones((2, 1, k, n), dtype)
    assert (CHECKED.run(Op.registry["matmul"], pairs, {}) == k).all()


@needs_compiler
@pytest.mark.parametrize("shape", [(3, 200, 5), (2, 0, 3), (9, 17, 33)], ids=str)
@FLOATS
def test_products_of_a_batch_have_the_bits_of_single_products(shape, dtype, rng):
    """With several splits of k, one and none."""
    m, k, n = shape
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((2, 2, m, k), (2, 2, k, n)))
    bias = rng.standard_normal(2 * n).astype(dtype)[::2]
    matmul, dense = (Op.registry[name] for name in ("matmul", "dense"))
    y = CHECKED.run(matmul, (x, w), {})
    for i in np.ndindex(2, 2):
        assert np.allclose(y[i], x[i] @ w[i], rtol=1e-4, atol=1e-4)
        assert np.array_equal(y[i], CHECKED.run(matmul, (x[i], w[i]), {}))
        assert np.array_equal(y[i] + bias, CHECKED.run(dense, (x[i], w[i], bias), {}))


@pytest.mark.parametrize(("m", "k", "n"), [(128, 256, 128), (512, 64, 784), (2048, 784, 2048)])
@FLOATS
def test_a_matrix_of_a_batch_is_split_as_if_alone(m, k, n, dtype):
    tiles = set()
    for matrices in (1, 3, 10, 1000):
        kernel, *_, depth = plan(m, k, n, matrices, np.dtype(dtype))
        tiles.add(kernel)
        assert depth == plan(m, k, n, 1, np.dtype(dtype))[-1]
    assert len(tiles) > 1 or m == 2048


@needs_compiler
def test_matrices_at_unaligned_addresses_pass_the_checks():
    """The rows allow vectorized access, but the second matrix begins at an unaligned address."""
    a = np.ones((3, 165), "f")[:, :160].reshape(3, 4, 40)
    assert a.strides == (660, 160, 4)
    b = np.ones((40, 8), "f")
    assert (CHECKED.run(Op.registry["matmul"], (a, b), {}) == 40).all()


@needs_compiler
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_a_grid_stride_loop_passes_the_checks(kind, rng, monkeypatch):
    """The outer axis is longer than the grid, so blocks use their shared memory repeatedly."""
    monkeypatch.setattr(reduce, "MAX_BLOCKS_OUTER", 2)
    x = rng.standard_normal((5, 20, 40))
    y = CHECKED.run(Op.registry[kind], (x,), {"axis": (1,), "keepdims": False})
    assert np.allclose(y, getattr(x, kind)(1), rtol=1e-12)


@needs_compiler
@FLOATS
def test_optimizers_take_unaligned_arrays(dtype, rng):
    """Parameters, gradients and moments at addresses that are no multiple of 16, and odd sizes."""
    state = [1e-3, 0.9, 0.99]
    for offset in (0, 1, 3):
        lists = [
            [rng.random(size + offset).astype(dtype)[offset:] for size in (1, 5, 2003, 64)]
            for _ in range(4)
        ]
        copies = [[np.concatenate([x[:offset], x])[offset:] for x in xs] for xs in lists]
        options = (0.5, 0.999, 1e-8, 0.01, False)
        Update.registry["adam"].reference(*lists, np.array(state), *options)
        optimizer.adam(CHECKED.launcher, *copies, np.array(state), *options)
        for xs, ys in zip(lists, copies, strict=True):
            for x, y in zip(xs, ys, strict=True):
                assert np.allclose(x, y, rtol=8 * np.finfo(dtype).eps, atol=0)


@needs_compiler
def test_uniform_numbers_stay_below_high():
    """A number that is rounded up to `high` becomes the one just below it, as in the reference."""
    op, counter = Op.registry["random_uniform"], (np.array([5]), np.array([6]))
    options = {"stream": 1, "shape": (1000,), "dtype": np.dtype("float32"), "low": 1.0}
    options["high"] = 1.0 + 2.0**-22
    expected = op.reference(*counter, **options)
    assert (expected == np.nextafter(np.float32(options["high"]), np.float32(0))).sum() > 300
    assert np.array_equal(run("cuda-emulator", op, counter, options), expected)


def test_the_kernels_use_no_atomic_operations():
    """A sum whose order varies from run to run has bits that vary."""
    kernels = Path(mg.kernels.__file__).parent
    for path in kernels.rglob("*.cu"):
        assert "atomic" not in re.sub(r"//.*", "", path.read_text()), path
