"""Write a generator as an ONNX file, and compare it with minigan in onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..utils import strict_json
from .files import PathLike, check_target, write_files
from .graph import OPSET, GraphBuilder
from .operations import OPERATIONS
from .source import Source, describe, metadata
from .trace import Call, ExportError, trace

if TYPE_CHECKING:
    from ..training.sampler import Sampler
    from ..training.saved_run import SavedRun

INPUTS, OUTPUT = ("latent", "labels"), "samples"
CHECKED_LATENTS = 100
TOLERANCE = 1e-5  # relative to the largest number of the samples where that is above 1
MAX_BYTES = 2**31 - 1  # of a protobuf message
IR_VERSION = 8  # the one of opset 17, which older runtimes read


@dataclass(frozen=True)
class OnnxExport:
    """An ONNX file that was written.

    Attributes:
        path: of the file.
        size: in bytes.
        difference: the largest one to minigan's samples, over a hundred latents; None where
            onnxruntime is not installed, so that the file was not checked.
    """

    path: Path
    size: int
    difference: float | None


def onnx(
    source: SavedRun | Sampler | nn.Module,
    path: PathLike,
    *,
    averaged: bool = True,
    latent_size: int | None = None,
) -> OnnxExport:
    """Write a generator to an ONNX file that makes the samples of `minigan sample`.

        mg.export.onnx(mg.load_run("runs/001-glyphs-mlp"), "digits.onnx")
        mg.export.onnx(G, "points.onnx", latent_size=2)

    The model has the inputs `latent` (batch, latent_size), float32, and for a conditional generator
    `labels` (batch,), int64, and the output `samples`, (batch, *shape), for any batch size. It is
    in eval mode. The file is checked by `onnx.checker`, and in onnxruntime against minigan, before
    it gets its name.

    Args:
        source: a run, or a generator of your own.
        path: a new file that ends in .onnx.
        averaged: whether to take the average of a run's generator, where it has one.
        latent_size: the length of the latents of your own generator.

    Raises:
        ExportError: a layer cannot be exported, the samples differ, or the package onnx is not
            installed; nothing is written.
        ValueError: the file exists, or its name does not fit.
    """
    target = check_target(path, ".onnx")
    data, difference = onnx_bytes(describe(source, averaged, latent_size))
    write_files({target: data})
    return OnnxExport(target, len(data), difference)


def onnx_bytes(source: Source) -> tuple[bytes, float | None]:
    """Return the content of a file, and the difference of its samples; see `OnnxExport`."""
    data: bytes = build_model(source).SerializeToString()
    return data, compare(source, data) if find_spec("onnxruntime") else None


def build_model(source: Source) -> Any:
    """Return the ONNX model of a generator, checked by `onnx.checker`.

    Raises:
        ExportError: an op has no form in ONNX, the model is not valid or too large, or the package
            onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise ExportError(
            "ONNX files need the package onnx: pip install -e '.[onnx]' in its checkout"
        )
    import onnx

    traced = trace(source.net, source.inputs, OPERATIONS.keys())
    graph = GraphBuilder(INPUTS[0])
    names = INPUTS[: len(traced.inputs)]
    for name, value in zip(names, traced.inputs, strict=True):
        graph.name_value(value, name)
    for call in traced.calls:
        graph.name_value(call.result, _write(graph, call))
    name = graph.names[traced.output.number]
    if source.scale != 1:
        name = graph.node("Mul", [name, graph.constant(source.scale, np.float32, "scale")])
    graph.nodes.append(graph.helper.make_node("Identity", [name], [OUTPUT], name=OUTPUT))
    model = _model(graph, source)
    if model.ByteSize() > MAX_BYTES:
        raise ExportError("the generator takes more than 2 GiB, the limit of an ONNX file")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        text = " ".join(str(error).split())
        raise ExportError(f"onnx.checker refuses the exported model: {text}") from None
    return model


def _write(graph: GraphBuilder, call: Call) -> str:
    """Add the nodes of a call, and return the name of its result."""
    dtypes = [x.dtype for x in call.inputs if hasattr(x, "dtype") and x.dtype.kind != "b"]
    dtype = (dtypes or [call.result.dtype])[0]
    names = [graph.input_name(x, dtype) for x in call.inputs]
    return OPERATIONS[call.op](graph, call, *names)


def _model(graph: GraphBuilder, source: Source) -> Any:
    """Return the model of a finished graph, with metadata."""
    import onnx
    from onnx import numpy_helper

    from .. import __version__

    helper, kinds = graph.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info(INPUTS[0], kinds.FLOAT, ["batch", source.latent_size])]
    if source.classes:
        inputs.append(helper.make_tensor_value_info(INPUTS[1], kinds.INT64, ["batch"]))
    output = helper.make_tensor_value_info(OUTPUT, kinds.FLOAT, ["batch", *source.shape])
    constants = [numpy_helper.from_array(x, name) for name, x in graph.constants.items()]
    proto = helper.make_graph(graph.nodes, "generator", inputs, [output], constants)
    model = helper.make_model(
        proto,
        producer_name="minigan",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    texts = {
        name: value if isinstance(value, str) else strict_json.dumps(value)
        for name, value in metadata(source).items()
    }
    helper.set_model_props(model, texts)
    return model


def session(data: bytes) -> Any:
    """Return an onnxruntime session of one thread for a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(runtime: Any, inputs: list[np.ndarray]) -> np.ndarray:
    """Return the samples that a session makes of latents, and labels."""
    feed = dict(zip(INPUTS, inputs, strict=False))
    samples: np.ndarray = runtime.run([OUTPUT], feed)[0]
    return samples


def compare(source: Source, data: bytes) -> float:
    """Return the largest difference of a model's samples to minigan's, over a hundred latents.

    Raises:
        ExportError: it is larger than 1e-5 times the largest number of the samples, or 1e-5.
    """
    inputs = source.inputs(CHECKED_LATENTS)
    expected = source.samples(inputs)
    try:
        actual = run(session(data), inputs)
    except Exception as error:  # onnxruntime's errors have no common class but this one
        raise ExportError(f"onnxruntime cannot run the exported model: {error}") from None
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(actual - expected).max()) if actual.shape == expected.shape else None
    if difference is None or not difference <= limit:
        text = f"by {difference:.2g}" if difference is not None else f"in shape: {actual.shape}"
        raise ExportError(
            f"the exported model's samples differ from minigan's {text}, where {limit:.2g} is"
            " accepted; nothing was written"
        )
    return difference
