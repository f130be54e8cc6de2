"""Formats that `fprep export` writes: every module here with a function `write` is one, named after the module.

    def write(job: ExportJob, folder: Path) -> None: ...

`fprep.export.job` and `fprep.export.geometry` are what they share.
"""
