"""The sections of a report, in their order: each is a function of the runs that returns HTML."""
