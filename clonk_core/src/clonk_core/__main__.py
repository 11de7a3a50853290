"""`python -m clonk_core`: the same program as the `clonk` command."""

import sys

from clonk_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
