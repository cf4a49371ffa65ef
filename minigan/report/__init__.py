"""Write a report of runs: one HTML file that shows what they make and how good it is."""

from .write import write_report
