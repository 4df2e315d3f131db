"""Contents of a file: a bundle or one file -> a report for each graph. Nothing is run.

files -> graph (each format's own reader: mlprogram, onnx_file) -> report -> text.
"""
