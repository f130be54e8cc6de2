"""Fault-injection campaigns against the real commands; see `python -m tests.faults.campaign --help`."""
