"""``python -m lensflow``."""

import sys

from lensflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
