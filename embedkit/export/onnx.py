"""Write a module as an ONNX file that says what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedkit.errors import ConfigError, RunError
from embedkit.libraries import muted
from embedkit.registry import require_extra

LARGEST_FILE = 2_000_000_000
"""Bytes of weights in one ONNX file, whose format ends at 2 GiB; more lie beside it, in `NAME.onnx.data`."""

NEEDED = ("onnx", "onnxscript", "onnxruntime")
REPORTING = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch")
"""Loggers of the exporter: what matters of its reports is the error, or the check afterwards."""


def require_onnx() -> None:
    """Refuse to start without the packages that ONNX files are written and checked by.

    Raises:
        ConfigError: one of them is not installed, or its version does not do.
    """
    for package in NEEDED:
        require_extra(
            package, extra="onnx", needed_by="An ONNX file", error=ConfigError, otherwise="take --format folder"
        )


def write_onnx(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    names: tuple[str, str],
    dynamic: Mapping[int, Any],
    metadata: Mapping[str, str],
) -> None:
    """Write a module of one input and one output, of any shape, `[...]`.

    Args:
        module: In evaluation mode, on the CPU.
        example: An input.
        path: The file; weights above `LARGEST_FILE` bytes lie beside it.
        names: Of the input and of the output.
        dynamic: Dimensions of the input of any size, as `torch.export` takes them.
        metadata: Texts by name, for the file's `metadata_props`.

    Raises:
        RunError: an operator that has no counterpart in ONNX.
    """
    try:
        with torch.no_grad(), muted(*REPORTING):
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=(dict(dynamic),),
                input_names=[names[0]],
                output_names=[names[1]],
                verbose=False,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(
            f"PyTorch cannot write this head and encoder as ONNX ({reason}); take --format folder."
        ) from error
    # The exporter notes where in which source each node comes from: paths of this machine, and addresses that change.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    size = sum(values.numel() * values.element_size() for values in module.state_dict().values())
    program.save(path, external_data=size > LARGEST_FILE)


def run_onnx(path: Path, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Run an ONNX file on the CPU, input by input, each of any shape the model takes, `[...]`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: values})[0] for values in inputs]
