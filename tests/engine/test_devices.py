"""The `cpu` device as a whole: it never falls back, and runs in odd processes and on odd disks."""

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import cpu_modules

import minigan as mg
from minigan import nn, optim
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.engine.update import Update
from minigan.kernels.runtime.cpu.sources import KERNELS_FOLDER

PRODUCTS = {"dot", "matmul", "einsum", "tensordot", "inner", "vdot", "outer", "multi_dot"}


def _gan_step(dropout: float, loss: str) -> list[float]:
    """Two training steps of an MLP GAN, by hand; the losses."""
    layers = [nn.Dense(6, 16), nn.LeakyReLU(0.2), nn.Dense(16, 20), nn.Tanh(), nn.Reshape(1, 4, 5)]
    g = nn.Sequential(*layers)
    drop = [nn.Dropout(dropout)] if dropout else []
    d = nn.Sequential(nn.Flatten(), nn.Dense(20, 16), nn.LeakyReLU(0.2), *drop, nn.Dense(16, 1))
    gan = mg.losses.LOSSES[loss]()
    adam_g, adam_d = (optim.Adam(net.parameters(), betas=(0.5, 0.999)) for net in (g, d))
    losses = []
    for _ in range(2):
        real = mg.random.uniform((8, 1, 4, 5), -1.0, 1.0, stream="data")
        with mg.no_grad():
            fake = g(mg.random.normal((8, 6)))
        loss_d = gan.discriminator(d(real), d(fake))
        adam_d.step(mg.grad(loss_d, d.parameters()))
        loss_g = gan.generator(d(g(mg.random.normal((8, 6)))), d(real))
        adam_g.step(mg.grad(loss_g, g.parameters()))
        losses += [loss_d.item(), loss_g.item()]
    return losses


# -------------------------------------------------------------------------------- no falling back
@pytest.mark.parametrize("loss", list(mg.losses.LOSSES))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_training_step_runs_on_kernels_alone(
    dropout: float, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No op's or update's numpy reference, and none of numpy's (BLAS) products."""

    def forbidden(name: str) -> Any:
        def run(*_: Any, **__: Any) -> None:
            raise AssertionError(f"{name} ran in numpy")

        return run

    for launch in (*Op.registry.values(), *Update.registry.values()):
        monkeypatch.setattr(launch, "reference", forbidden(launch.name))
    for name in PRODUCTS:
        if hasattr(np, name):
            monkeypatch.setattr(np, name, forbidden(f"numpy.{name}"))
    assert np.isfinite(_gan_step(dropout, loss)).all()


def test_the_spy_above_sees_a_reference() -> None:
    with pytest.MonkeyPatch.context() as patch, mg.use_device("reference"):
        patch.setattr(Op.registry["dense"], "reference", None)
        with pytest.raises(TypeError, match="not callable"):
            _gan_step(0.0, "nonsaturating")


def test_training_steps_agree_with_the_reference_device() -> None:
    """To float32's rounding, from the same seed."""
    results = []
    for device in ("cpu", "reference"):
        mg.manual_seed(5)
        with mg.use_device(device):
            results.append(_gan_step(0.3, "nonsaturating"))
    assert np.allclose(results[0], results[1], rtol=1e-5)


def test_kernels_hold_no_product_of_numpys_or_numbas() -> None:
    """`a @ b` and numpy.dot inside compiled code are BLAS as well."""
    read = 0
    for path in KERNELS_FOLDER.rglob("*.py"):
        if path.name.startswith("optimization_steps"):
            continue  # kernels that teach may be compared with those of numpy
        read += 1
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
            named = isinstance(node, ast.Attribute) and node.attr in PRODUCTS
            assert not product, f"{path.parent.name}/{path.name}: `@` in line {node.lineno}"
            assert not named, f"{path.parent.name}/{path.name}: {node.attr} in line {node.lineno}"
    assert read > len(cpu_modules())


def test_products_never_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu: Any = get_device("cpu")
    monkeypatch.setattr(cpu, "kernels", {})
    x = mg.tensor(np.ones((2, 2)))
    assert (x + x).numpy().tolist() == [[2, 2], [2, 2]]  # elementwise ops may
    image = mg.tensor(np.ones((1, 1, 3, 3)), requires_grad=True)
    weight = mg.tensor(np.ones((1, 1, 2, 2)))
    calls = (
        lambda: x @ x,
        lambda: mg.ops.dense(x, x, x[0]),
        lambda: mg.ops.conv2d(image, weight),
        lambda: mg.ops.conv_transpose2d(image, weight),
    )
    for call in calls:
        with pytest.raises(NotImplementedError, match="cpu device has no kernel for op"):
            call()
    refusing = {name for name, op in Op.registry.items() if op.needs_kernel}
    assert refusing == {"matmul", "dense", "conv2d", "conv2d_input_grad", "conv2d_weight_grad"}


# --------------------------------------------------------------------------- in processes
def _python(script: str, timeout: int = 120, **environment: str) -> str:
    """What a script prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


# Ops whose parallel kernels run, and one result of all of them as hexadecimal digits.
WORK = """
    import hashlib
    import numpy as np
    import minigan as mg
    import minigan.kernels.elementwise.cpu as elementwise

    size = elementwise.MIN_PARALLEL_ELEMENTS + 1
    a = mg.tensor(np.arange(size, dtype="float32"))
    m = mg.tensor(np.arange(200 * 200, dtype="float32").reshape(200, 200) % 7)

    def work():
        digest = hashlib.sha256()
        w = mg.tensor(np.ones(size, "float32"), requires_grad=True)
        for x in (a + a, (a + a).sum(axis=0), m @ m):
            digest.update(x.numpy().tobytes())
        mg.optim.SGD([w], lr=0.1).step([a])
        digest.update(w.numpy().tobytes())
        return digest.hexdigest()
"""


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """Kernels are compiled, run and forgotten."""
    file = tmp_path / "file"
    file.write_text("no folder")
    script = """
        import minigan as mg
        print((-mg.tensor([1.0, 2.0])).numpy().tolist())
    """
    assert _python(script, MINIGAN_CACHE=str(file / "cache")) == "[-1.0, -2.0]\n"
    assert file.read_text() == "no folder"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same_bits() -> None:
    """Threads do not survive a fork; there new ones are started."""
    fork = """
    import os, select, sys
    from minigan.kernels.runtime.cpu import compiler, thread_pool

    before = work()
    assert thread_pool.threads() == 2
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, work().encode())
        os._exit(0)
    ready, _, _ = select.select([read], [], [], 60)
    if not ready:
        os.kill(child, 9)
    after = os.read(read, 100).decode() if ready else "no answer within 60 s"
    os.waitpid(child, 0)
    print(after == before == work() or after)
    """
    assert _python(WORK + fork) == "True\n"


def test_two_python_threads_at_once() -> None:
    threads = """
    import threading
    from concurrent.futures import ThreadPoolExecutor
    work()
    with ThreadPoolExecutor(2) as pool:
        print(len({f.result() for f in [pool.submit(work) for _ in range(8)]}))
    """
    assert _python(WORK + threads) == "1\n"


def test_compiled_kernels_are_found_by_the_next_process(tmp_path: Path) -> None:
    """Of every kernel family, in a copy of the cache: nothing is compiled, no file changes."""
    script = """
    from minigan.kernels.runtime.cpu import compiler, thread_pool
    from minigan.engine.device import get_device
    compiled = []
    get_device("cpu").on_compile(compiled.append)
    work()
    mg.ops.concatenate([a, a])
    mg.random.permutation(5)
    print(len(compiled), compiler.compiled_folder())
    """

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}

    filled = Path(_python(WORK + script).split(maxsplit=1)[1].strip())
    if filled == Path("None"):
        pytest.skip("there is no cache that can be written")
    copy = tmp_path / "kernels"
    shutil.copytree(filled, copy)
    written = files()
    assert any("matmul" in name for name in written)
    assert _python(WORK + script, MINIGAN_CACHE=str(tmp_path)) == f"0 {copy}\n"
    assert files() == written


def test_importing_minigan_does_not_import_numba() -> None:
    assert _python("import sys, minigan; print('numba' in sys.modules)") == "False\n"
