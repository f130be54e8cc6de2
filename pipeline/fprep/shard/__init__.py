"""`fprep shard`: write a table as a shard set. The package itself is callable; see `fprep.shard.command.shard`."""

from fprep.callable_package import make_callable

make_callable(__name__)
