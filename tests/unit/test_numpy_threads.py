"""numpy computes in the thread that asks: threads that spin would take cores from packets and engines."""

from __future__ import annotations

import subprocess
import sys

PRODUCT = """
import os
import connector
import numpy as np
square = np.ones((500, 500))
square @ square
print(len(os.listdir("/proc/self/task")))
"""


def test_a_large_product_leaves_no_threads() -> None:
    done = subprocess.run([sys.executable, "-c", PRODUCT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_who_sets_the_threads_is_heeded() -> None:
    asked = "import os, connector; print(os.environ['OPENBLAS_NUM_THREADS'])"
    environment = {"OPENBLAS_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
