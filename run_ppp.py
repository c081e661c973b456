"""Run stages of an experiment; see ``python run_ppp.py --help``."""

import sys

from instaseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
