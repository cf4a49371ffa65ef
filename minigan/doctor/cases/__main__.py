"""Train all cases, with and without remedies: `python -m minigan.doctor.cases`.

It writes the results to measured.json beside this file, the figure, and the tables in README.md
beside it. `--readme` writes the figure and the tables of an earlier measured.json. It takes about
four minutes of one core.
"""

from __future__ import annotations

import argparse

from .readme import measure, read, rewrite

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m minigan.doctor.cases", description=__doc__)
    parser.add_argument("--readme", action="store_true", help="only write figure and tables again")
    parser.add_argument("--workers", type=int, help="processes (default: the number of cores)")
    options = parser.parse_args()
    rewrite(*(read() if options.readme else measure(options.workers)))
