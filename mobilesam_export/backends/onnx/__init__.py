"""ONNX files, by torch's exporter, run by ONNX Runtime."""
