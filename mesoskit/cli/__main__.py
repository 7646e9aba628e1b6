"""C{python -m mesoskit.cli}: the command without its script."""

import sys

from mesoskit.cli import main

if __name__ == "__main__":
    sys.exit(main())
