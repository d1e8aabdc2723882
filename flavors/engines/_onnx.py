"""ONNX models out of the models folder, on onnxruntime."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from connector.errors import ModelMissing, PackageMissing
from connector.interfaces import ModelFile

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def require(engine: str) -> None:
    """Raises `PackageMissing` where onnxruntime is not installed. `engine`: name of the engine and of its extra."""
    if find_spec("onnxruntime") is None:
        raise PackageMissing(engine, f"onnxruntime is not installed: run `pip install 'voxtrunk[{engine}]'`")


def session(engine: str, model: ModelFile, folder: Path) -> InferenceSession:
    """`model`, loaded to compute on one thread of the CPU: the cores belong to the calls.

    Raises `ModelMissing` where it was not fetched into `folder`, or is damaged.
    """
    import onnxruntime

    path = folder / model.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelMissing(engine, f"{path}: {error.strerror}: run `voxtrunk models fetch`") from error
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise ModelMissing(engine, f"{path} is damaged: run `voxtrunk models fetch`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
