"""`python -m mebert`."""

import sys

from mebert.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
