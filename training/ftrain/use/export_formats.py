"""The two formats of `ftrain export`, an ONNX file and a torch.export archive, and how to run each.

The same module gives the same bytes, without local paths or pickles.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from fschemas.extras import EXTRAS
from fschemas.failures import UsageError
from fschemas.preflight import check_installed
from ftrain.data.stream import Batch

BATCH = "batch"  # name of the dynamic dimension
Predict = Callable[[Batch], dict[str, np.ndarray]]


def traced(module: nn.Module, example: Batch, task_name: str) -> torch.export.ExportedProgram:
    """Trace the module with a dynamic batch size, and remove local source paths."""
    batch = torch.export.Dim(BATCH, min=1)
    try:
        program = torch.export.export(
            module, (example,), dynamic_shapes=({name: {0: batch} for name in example},), strict=False
        )
        program = program.run_decompositions({})
    except Exception as error:  # torch raises many types for what it cannot trace
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"the task {task_name} cannot be exported with a batch of any size ({reason[:200]})"
        ) from error
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            for name in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
                node.meta.pop(name, None)
    return program


def as_archive(program: torch.export.ExportedProgram) -> bytes:
    """Serialize a program for `torch.export.load`."""
    program.example_inputs = None  # they would be pickled
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def archive_predictor(content: bytes) -> Predict:
    """Load an archive as a user would and return its prediction function."""
    module = torch.export.load(io.BytesIO(content)).module()
    return lambda batch: {name: tensor.numpy() for name, tensor in module(batch).items()}


def require_onnx() -> None:
    """Raise `EnvironmentProblem` unless all packages for ONNX are installed."""
    check_installed(*EXTRAS["export"])


def as_onnx(program: torch.export.ExportedProgram, inputs: list[str]) -> bytes:
    """Serialize a program as ONNX: original input and output names, no source annotations."""
    import onnx

    assert program.call_spec.out_spec is not None
    outputs = [str(name) for name in program.call_spec.out_spec.context]
    taken = set(inputs)
    names = [name if name not in taken else f"{name}_out" for name in outputs]
    with _quiet():
        exported = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=names)
        assert exported is not None
        model: Any = exported.model_proto
    graphs = [model.graph]
    for graph in graphs:
        for node in graph.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
            value.ClearField("metadata_props")
        graph.ClearField("metadata_props")
    if model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
        raise UsageError("the model is larger than the 2 GiB that an ONNX file can hold; use --to torch-export")
    return model.SerializeToString(deterministic=True)


def onnx_predictor(content: bytes, inputs: list[str]) -> Predict:
    """Return the prediction function of an ONNX file, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name.removesuffix("_out") for output in session.get_outputs()]

    def predict(batch: Batch) -> dict[str, np.ndarray]:
        found = session.run(None, {name: batch[name].numpy() for name in inputs})
        return {name: np.asarray(values) for name, values in zip(names, found, strict=True)}

    return predict


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's internal messages."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            exporters = r"(torch\.onnx|onnxscript|onnx_ir|onnx|torch\.export|torch\.utils)\b"
            warnings.filterwarnings("ignore", module=exporters)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
