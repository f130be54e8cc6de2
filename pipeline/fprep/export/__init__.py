"""Export formats of `fprep export`: each module with a function `write` is a format, named after the module.

    def write(job: ExportJob, folder: Path) -> None: ...

They share `fprep.export.job` and `fprep.export.geometry`.
"""
