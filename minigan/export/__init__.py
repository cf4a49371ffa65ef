"""Write generators for other programs: ONNX, PyTorch and numpy (see README.md)."""

from .arrays import npz, torch
from .onnx_file import OnnxExport, onnx
from .operations import OPERATIONS
from .torch_text import FORWARDS
from .trace import ExportError

__all__ = ["FORWARDS", "OPERATIONS", "ExportError", "OnnxExport", "npz", "onnx", "torch"]
