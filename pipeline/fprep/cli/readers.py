"""The command `fprep readers`. Heavy modules are imported inside it to keep `--help` fast."""

from fprep.cli.options import AsJson
from fschemas.command_line import print_result


def readers(as_json: AsJson = False) -> None:
    """List the readers with their file patterns and --map keys."""
    from fprep.readers.registry import readers as known_readers

    values = {
        name: {
            "paper": reader.paper, "license": reader.license, "citation": reader.citation,
            "files": {variant: list(patterns) for variant, patterns in reader.variants.items()}, "totals": dict(reader.totals),
            "map": dict(reader.mapping),
        }
        for name, reader in known_readers().items()
    }  # fmt: skip
    lines: list[str] = []
    for name, reader in known_readers().items():
        lines += [f"{name}: {reader.paper}; {reader.license}"]
        lines += [f"  recognizes {variant}: {', '.join(patterns)}" for variant, patterns in reader.variants.items()]
        lines += [f"  --map {key}=…  {meaning}" for key, meaning in reader.mapping.items()]
    print_result(values, "\n".join(lines), as_json=as_json)
