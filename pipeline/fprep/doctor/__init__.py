"""Parts of `fprep doctor`: scanning folders, recognizing files by their first bytes, and checking them."""
