"""A custom training loop over a shard set: `python examples/train_loop.py SHARDS`.

A small convolutional network classifies the garment (`garment` of the annotation) from whole images. Order and
augmentation depend on `seed` and position only, so the batches are the same for any number of workers.
"""

import argparse

import cv2
import numpy as np
import simplejpeg
import torch
from torch import nn

import ftrain

SIDE = 64  # pixels


class Encode:
    """Encode a sample in a data worker: `image` uint8 3, SIDE, SIDE and `label` int64."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes

    def __call__(self, sample, generator):
        image = cv2.resize(simplejpeg.decode_jpeg(sample.image, "RGB"), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if generator is not None and generator.random() < 0.5:
            image = image[:, ::-1]
        label = self.classes.index(sample.annotation["garment"])
        return {"image": np.ascontiguousarray(image.transpose(2, 0, 1)), "label": np.int64(label)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a garment classifier with a plain loop.")
    parser.add_argument("shards", help="folder or URL of a shard set")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    torch.manual_seed(0)
    training = ftrain.ShardDataset(options.shards, "train", batch_size=options.batch_size)
    classes = sorted({str(garment) for garment in training.shards.columns["garment"]})
    training.encoder = Encode(classes)
    test = ftrain.ShardDataset(
        options.shards, "test", batch_size=options.batch_size, shuffle=False, encoder=Encode(classes)
    )

    layers = [
        nn.Sequential(nn.LazyConv2d(width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        for width in (16, 32, 64)
    ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(len(classes)))
    model(torch.zeros(2, 3, SIDE, SIDE))  # initializes the lazy layers
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(options.epochs):
        training.set_epoch(epoch)
        model.train()
        for batch in training.loader(options.workers):
            loss = nn.functional.cross_entropy(model(batch["image"] / 255), batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            hits = [model(batch["image"] / 255).argmax(1) == batch["label"] for batch in test.loader(options.workers)]
        print(
            f"epoch {epoch}: loss {loss.item():.3f}, accuracy {torch.cat(hits).float().mean():.3f} of {len(test)} test images"
        )


if __name__ == "__main__":
    main()
