"""Trained models on ONNX Runtime: `export` writes one graph an exit, or all in one, `runner` runs them without PyTorch."""
