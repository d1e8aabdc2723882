"""The voxtrunk connector: takes a call's RTP, runs a flavor, sends speech back."""

import os

__version__ = "0.1.0"

# Before anything imports numpy, and for the processes of engines, too. OpenBLAS would compute a product of 100 by 100
# on all cores; its threads then spin for 0.1 s, on cores that packets and engines need, and the product takes 0.1 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Before anything imports onnxruntime: from 1.29 on it tells its maker which models are run, and when.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
