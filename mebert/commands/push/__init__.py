"""`python -m mebert push`: a model with its card on the Hugging Face Hub."""
