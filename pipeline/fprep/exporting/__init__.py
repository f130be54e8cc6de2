"""Formats that `fprep export` writes: every module here with a function `write` is one, named after the module.

    def write(job: ExportJob, folder: Path) -> None: ...

`fprep.exporting.job` and `fprep.exporting.geometry` are what they share.
"""
