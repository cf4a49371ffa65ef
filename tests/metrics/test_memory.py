"""The memory of a process that compares 10,000 with 10,000 samples in 784 dimensions."""

import subprocess
import sys

import pytest
from run_helpers import ENVIRONMENT

SCRIPT = """
import re
from pathlib import Path
import numpy as np
from minigan import metrics

rng = np.random.default_rng(0)
x, y = (rng.standard_normal((10_000, 784), dtype=np.float32) for _ in range(2))
print(metrics.frechet_distance(x, y))
found = metrics.precision_recall(x, y)
print(found.precision, found.recall)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read in /proc")
def test_a_real_process_stays_below_half_a_gigabyte():
    """Measured 450 MB, of which 230 MB are Python, numba and the samples; all pairs are 800 MB."""
    words = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    frechet, precision, recall, megabytes = map(float, done.stdout.split())
    assert megabytes < 550
    assert 0 <= precision <= 1
    assert 0 <= recall <= 1
    # The bias of n samples of one distribution is of the order d^2 / n = 61.
    assert 10 < frechet < 100
