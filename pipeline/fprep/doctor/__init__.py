"""The parts of `fprep doctor`: looking around, knowing files by their first bytes, and checking what was found."""
