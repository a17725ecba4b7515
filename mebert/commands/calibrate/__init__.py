"""`python -m mebert calibrate`: choose thresholds on recorded rows and store them with the model."""
