"""Campaigns of faults against the real commands; `python -m tests.faults.campaign --help` runs them."""
