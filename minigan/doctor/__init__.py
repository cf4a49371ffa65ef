"""Say what is wrong with a training, and what to try: `minigan doctor RUN` (see README.md)."""

from .diagnosis import Diagnosis, Finding, Gauge, diagnose

__all__ = ["Diagnosis", "Finding", "Gauge", "diagnose"]
