"""Trained models on ONNX Runtime: `export` writes one graph an exit, `runner` runs them without PyTorch."""
