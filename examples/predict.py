"""Predict images with a trained run: `python examples/predict.py RUN IMAGE...`."""

import sys

import numpy as np
from PIL import Image

import ftrain

run, *images = sys.argv[1:]
model = ftrain.load(run)

for answer in model.predict(images):
    print(answer)

# Pillow images and arrays work in the same way.
photo = Image.open(images[0]).convert("RGB")
flipped = np.asarray(photo)[:, ::-1]
for answer in model.predict([photo, flipped]):
    print({name: value for name, value in answer.items() if name in ("image", "category", "garment")})
