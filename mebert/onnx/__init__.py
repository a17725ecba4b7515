"""Trained models on ONNX Runtime: `export` writes a graph an exit or one of all, `runner` runs them without PyTorch."""
