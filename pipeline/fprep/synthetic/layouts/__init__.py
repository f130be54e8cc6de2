"""Writers of synthetic data in the raw layout of every data set: the default of a first run, of the tests and of the benchmarks."""
