"""One file per raw dataset. Every module here is found by `fprep.reader.readers`; nothing has to be registered."""
