"""`python -m minigan.bench.gpu --out DIR`: the tests and benchmarks that need a GPU, in minutes.

__main__.py   the command line
parts.py      the table of parts, the most important first, and their commands
runner.py     runs the parts within the minutes, and writes the summary after each
process.py    runs one process with a time limit
measure.py    what the processes of minigan's own measurements do
logs.py       counts in the logs of pytest and compute-sanitizer
targets.py    the speeds that are aimed at, beside what was measured
summary.py    summary.md
"""
