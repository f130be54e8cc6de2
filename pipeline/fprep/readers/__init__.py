"""One file or folder per raw data set.

`fprep.readers.registry.readers` discovers every `Reader`; there is no list to edit.
"""
