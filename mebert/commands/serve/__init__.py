"""`python -m mebert serve`: answers over HTTP, on LitServe: bounded queue, worker processes, metrics, draining."""
