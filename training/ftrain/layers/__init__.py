"""Building blocks of the models: networks without tasks, target encoders and decoders, loss reductions."""
