"""The engine: tensors, ops, automatic differentiation, devices, capture and random numbers."""
