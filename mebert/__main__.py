"""`python -m mebert`."""

import sys

from mebert.entry import main

if __name__ == "__main__":
    sys.exit(main())
