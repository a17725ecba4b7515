"""Helpers of these tests are found by their name, also by the processes that they start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # process_jobs.py and process_groups.py
