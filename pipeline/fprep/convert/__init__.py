"""`fprep convert`: a raw folder to a validated table. The package can be called like its command: see `fprep.convert.command.convert`."""

from fprep.callable_package import make_callable

make_callable(__name__)
