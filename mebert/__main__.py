"""`python -m mebert`."""

import sys

from mebert.cli.main import main
from mebert.runtime.parent import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    sys.exit(main())
