"""The five DeepFashion benchmarks and the list formats that they share."""
