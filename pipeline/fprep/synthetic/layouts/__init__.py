"""Writers of synthetic data in the raw layout of every data set, for first runs, tests and benchmarks."""
