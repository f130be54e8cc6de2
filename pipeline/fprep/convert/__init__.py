"""`fprep convert`: raw folder to validated table.

The package is callable like the command, see `fprep.convert.command.convert`.
"""

from fprep.callable_package import make_callable

make_callable(__name__)
