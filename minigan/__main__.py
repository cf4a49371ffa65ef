"""`python -m minigan` is the command `minigan`."""

import sys

from .cli import main

sys.exit(main())
