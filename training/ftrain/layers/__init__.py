"""Building blocks of the models: backbones, target encoders and decoders, losses, pooling."""
