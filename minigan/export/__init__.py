"""Write generators for other programs: ONNX, PyTorch and numpy (see README.md)."""

from .onnx_file import OnnxExport, onnx
from .operations import OPERATIONS
from .trace import ExportError

__all__ = ["OPERATIONS", "ExportError", "OnnxExport", "onnx"]
