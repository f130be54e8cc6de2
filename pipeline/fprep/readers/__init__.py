"""One file or folder per raw data set. `fprep.readers.registry.readers` finds every `Reader` here; nothing has to be registered."""
