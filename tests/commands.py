"""Run commands in this process: most tests check only output and exit code, and starting a process takes a second."""

from __future__ import annotations

import subprocess

from typer.testing import CliRunner

import fprep.cli
import ftrain.cli
from fschemas.failures import explain

APPS = {"fprep": fprep.cli.app, "ftrain": ftrain.cli.app}


def run_command(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Like `subprocess.run` with text output; an expected failure gives the message and exit code of `main`."""
    arguments = [str(word) for word in words]
    result = CliRunner().invoke(APPS[program], arguments)
    told = explain(result.exception) if result.exception else None
    if told is None and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    code, stderr = (
        (int(told[0]), f"{result.stderr}{program}: {told[1]}\n") if told else (result.exit_code, result.stderr)
    )
    return subprocess.CompletedProcess([program, *arguments], code, result.stdout, stderr)
