"""Parts of `fprep audit`."""
