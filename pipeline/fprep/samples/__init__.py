"""Sample data in the raw layouts of the datasets, drawn by us: the default of a first run, of the tests and of the benchmarks."""
