"""`python -m mebert export`: a model as a folder for ONNX Runtime, checked against PyTorch before it is there."""
