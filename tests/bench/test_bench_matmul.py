"""`minigan bench matmul`: the products that are measured, and the report. No time is asserted."""

from helpers import assert_close

from minigan.bench import matmul
from minigan.bench.plan import Plan, Task
from minigan.gan.models import Perceptrons

MLP = Task(Perceptrons("", (5,), (5,), 4), (1, 2, 3), (2, 3))
TINY = Plan({"MLP": MLP}, 8, matmul_seconds=0)


def test_products_match_their_cases_and_contenders_agree():
    products = set()
    for group in matmul.groups(TINY, "peer"):
        for case, own, peer in zip(group.cases, *group.calls.values(), strict=True):
            product = own()
            assert product.shape == (case["m"], case["n"])
            a, b, _ = peer.args
            letters = "".join("NT"[not x.flags.c_contiguous] for x in (a, b))
            assert case["transposes"] == letters or 1 in a.shape + b.shape
            assert_close(product, peer(), 1e-4)
            products.add((case["layer"], case["transposes"]))
    layers = ["G 4-5", "G 5-6", "D 6-5", "D 5-1"]
    assert products == {(x, y) for x in layers for y in matmul.TRANSPOSES} | {(matmul.SQUARE, "NN")}


def test_matmul_report():
    def case(layer, transposes, batch, own, peer):
        seconds = {"minigan": [own] * 3, "OpenBLAS": [peer] * 3}
        return {"batch": batch, "layer": layer, "transposes": transposes, "m": 100,
                "k": 200, "n": 500, "products_per_call": 1, "seconds": seconds}  # fmt: skip

    cases = [
        case("G 1-2", "NN", 64, 1e-3, 2e-3),  # 2e7 operations: 20 and 10 GFLOP/s
        case("D 2-1", "NT", 64, 4e-3, 2e-3),
        case("D 2-1", "TN", 128, 1e-4, 8e-4),
        case(matmul.SQUARE, "NN", 100, 1e-4, 1e-4),
    ]
    lines = matmul.report(cases, "OpenBLAS").splitlines()
    assert "median and quartiles of 3 rounds; ratio = minigan / OpenBLAS, higher is better" in lines
    rows = [line.split() for line in lines]
    row = "G 1-2 NN 100 200 500 20.0 20.0..20.0 10.0 10.0..10.0 2.00 2.00..2.00"
    assert row.split() in rows
    assert "ratio: geometric mean 1.00, minimum 0.500 (D 2-1 NT, batch 64)" in lines
    assert lines[lines.index("all batch sizes") + 1] == (
        "ratio: geometric mean 2.00, minimum 0.500 (D 2-1 NT, batch 64)"
    )
    assert [row for row in rows if row[:1] in (["minigan"], ["OpenBLAS"])] == [
        ["minigan", "200", "200"],
        ["OpenBLAS", "200", "25.0"],
    ]
