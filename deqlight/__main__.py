"""Station 1, the command: `python -m deqlight` is `deqlight`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
