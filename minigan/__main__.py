"""Run the command `minigan`: `python -m minigan`."""

import sys

from .cli.commands import main

sys.exit(main())
