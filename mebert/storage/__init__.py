"""Files on disk: written whole or not at all, checkpoints, run folders, the Hub, which classes a file may name."""
