"""`fprep shard`: a table to a shard set. The package can be called like its command: see `fprep.shard.command.shard`."""

from fprep.callable_package import make_callable

make_callable(__name__)
