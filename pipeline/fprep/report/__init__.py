"""Parts of `fprep report`: one self-contained HTML page."""
