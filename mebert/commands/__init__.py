"""mebert's own commands: what only that command needs, one folder each."""
