"""Compute: image decoders, numpy, torch, ONNX Runtime."""
