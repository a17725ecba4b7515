"""How fast early exit is, measured: what `python -m mebert bench` is made of."""
