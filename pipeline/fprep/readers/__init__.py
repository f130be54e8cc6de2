"""One file per raw dataset. Every module here is found by `fprep.readers.reader.readers`; nothing has to be registered."""
