"""`python -m minigan` is the command `minigan`."""

import sys

from .cli.commands import main

sys.exit(main())
