"""From one recorded pass over a split to numbers: task metrics, accuracy-speed curves, intervals, ranks."""
