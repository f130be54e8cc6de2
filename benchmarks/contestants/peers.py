"""Contestants that users have today, in an environment of their own: `peers.py NAME FOLDER SETTINGS`.

All loaders have two workers, shuffle, and give batches of uint8 images and moved keypoints, as the stream does. SETTINGS
is the recipe: JSON with the fields of a view that `benchmarks/stream.py` turns into albumentations.
"""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from serving import serve

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
WORKERS = 2
Sample = tuple[bytes, bytes]  # JPEG and JSON


class Albumentations:
    """The recipe with OpenCV and albumentations, on (JPEG, JSON)."""

    def __init__(self, settings: SimpleNamespace) -> None:
        self.settings = settings
        self.run: Callable[..., Any] | None = None

    def __call__(self, sample: Sample) -> dict[str, Any]:
        import numpy as np

        if self.run is None:  # in the worker
            import cv2
            from stream import recipe

            cv2.setNumThreads(0)
            self.run = recipe(self.settings, self.settings.points)
        found = self.run(sample[0], json.loads(bytes(sample[1])))  # litdata gives views
        points = {"keypoints": np.asarray(found["keypoints"], np.float32)} if self.settings.points else {}
        return {"image": found["image"], **points}


class Torchvision:
    """The same recipe with Pillow and torchvision's transforms."""

    def __init__(self, settings: SimpleNamespace) -> None:
        from torchvision.transforms import v2

        size, color, self.settings = settings.input_size, settings.color_jitter, settings
        shift = (settings.translate, settings.translate) if settings.translate else None
        self.transform = v2.Compose([
            v2.RandomAffine(settings.rotation, shift, tuple(settings.scale), interpolation=v2.InterpolationMode.BILINEAR, fill=128),
            v2.RandomHorizontalFlip(settings.flip),
            v2.ColorJitter(color, color, color),
            v2.PILToTensor(),
        ])  # fmt: skip
        self.size = size

    def __call__(self, sample: Sample) -> dict[str, Any]:
        import torch
        from PIL import Image, ImageOps
        from torchvision import tv_tensors

        image, note = Image.open(io.BytesIO(sample[0])).convert("RGB"), json.loads(sample[1])
        if self.settings.crop == "box":
            image = image.crop(tuple(note["box"]))
        image = ImageOps.pad(image, (self.size, self.size), color=(128, 128, 128))
        if not self.settings.points:
            return {"image": self.transform(image)}
        points = torch.tensor([note["landmark_x"], note["landmark_y"]]).T
        image, points = self.transform(image, tv_tensors.KeyPoints(points, canvas_size=(self.size, self.size)))
        return {"image": image, "keypoints": points}


def lengths(batches: Iterable[dict[str, Any]]) -> Iterator[int]:
    return (len(batch["image"]) for batch in batches)


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def load_webdataset(folder: Path, settings: SimpleNamespace, transform: Callable[[Sample], Any]) -> Iterator[int]:
    import webdataset
    from torch.utils.data import DataLoader

    tars = sorted(map(str, (folder / "shards").glob("train-*.tar")))
    samples = webdataset.WebDataset(
        tars, shardshuffle=len(tars), empty_check=False, workersplitter=webdataset.split_by_worker
    )
    samples = samples.repeat().shuffle(1000).to_tuple("jpg", "json").map(transform)
    return lengths(DataLoader(samples, batch_size=settings.batch_size, num_workers=WORKERS))


def load_litdata(folder: Path, settings: SimpleNamespace) -> Iterator[int]:
    import litdata

    copy = folder / "litdata"
    if not copy.exists():
        litdata.optimize(_identity, _samples(folder), str(copy), num_workers=1, chunk_bytes="64MB", verbose=False)
    samples = litdata.StreamingDataset(str(copy), shuffle=True, transform=Albumentations(settings))
    loader = litdata.StreamingDataLoader(
        samples, batch_size=settings.batch_size, num_workers=WORKERS, persistent_workers=True
    )
    return lengths(endless(loader))


def load_streaming(folder: Path, settings: SimpleNamespace) -> Iterator[int]:
    import streaming
    from torch.utils.data import DataLoader

    class Samples(streaming.StreamingDataset):
        def __getitem__(self, index: Any) -> Any:
            sample = super().__getitem__(index)
            return transform((sample["jpg"], sample["json"]))

    transform, copy = Albumentations(settings), folder / "mds"
    if not copy.exists():
        with streaming.MDSWriter(out=str(copy), columns={"jpg": "bytes", "json": "bytes"}) as out:
            for jpg, text in _samples(folder):
                out.write({"jpg": jpg, "json": text})
    streaming.base.util.clean_stale_shared_memory()
    samples = Samples(local=str(copy), shuffle=True, batch_size=settings.batch_size)
    return lengths(
        endless(DataLoader(samples, batch_size=settings.batch_size, num_workers=WORKERS, persistent_workers=True))
    )


def load_dali(folder: Path, settings: SimpleNamespace) -> Iterator[int]:
    """The recipe in DALI's operators on the CPU; keypoints are parsed in Python and moved by the same matrices."""
    import numpy as np
    from nvidia.dali import fn, pipeline_def

    size, tars = settings.input_size, sorted(map(str, (folder / "shards").glob("train-*.tar")))
    jitter = 1 - settings.color_jitter, 1 + settings.color_jitter

    @pipeline_def(batch_size=settings.batch_size, num_threads=WORKERS, device_id=None)
    def pipeline() -> Any:
        jpg, text = fn.readers.webdataset(
            paths=tars, ext=["jpg", "json"], random_shuffle=True, initial_fill=1000, missing_component_behavior="error"
        )
        image = fn.decoders.image(jpg, device="cpu")
        image = fn.resize(image, device="cpu", size=(size, size), mode="not_larger")
        image = fn.paste(image, ratio=1.0, fill_value=128, min_canvas_size=size)
        scale = fn.random.uniform(range=tuple(settings.scale))
        center = (size / 2, size / 2)
        matrix = fn.transforms.scale(scale=fn.stack(scale, scale), center=center)
        matrix = fn.transforms.rotation(
            matrix, angle=fn.random.uniform(range=(-settings.rotation, settings.rotation)), center=center
        )
        shift = settings.translate * size
        matrix = fn.transforms.translation(matrix, offset=fn.random.uniform(range=(-shift, shift), shape=(2,)))
        image = fn.warp_affine(image, matrix=matrix, size=(size, size), fill_value=128, inverse_map=False)
        image = fn.flip(image, horizontal=fn.random.coin_flip(probability=settings.flip))
        drawn = [fn.random.uniform(range=jitter) for _ in range(3)]
        image = fn.color_twist(image, brightness=drawn[0], contrast=drawn[1], saturation=drawn[2])
        return image, fn.pad(text), matrix

    built = pipeline(exec_dynamic=False)
    built.build()
    while True:
        image, texts, matrices = built.run()
        np.stack([np.asarray(image[position]) for position in range(len(image))])
        if settings.points:
            for text, matrix in zip(texts.as_array(), matrices.as_array(), strict=True):
                note = json.loads(bytes(text).rstrip(b"\0"))
                np.stack([note["landmark_x"], note["landmark_y"]], 1) @ matrix[:, :2].T + matrix[:, 2]
        yield len(image)


def write_webdataset(folder: Path) -> Iterator[int]:
    import webdataset

    samples = json.loads((folder / "samples.json").read_text())
    while True:
        (folder / "webdataset").mkdir()
        with webdataset.ShardWriter(str(folder / "webdataset/%06d.tar"), maxcount=1000, verbose=0) as out:
            for sample in samples:
                out.write(
                    {"__key__": sample["key"], "jpg": Path(sample["path"]).read_bytes(), "json": sample["annotation"]}
                )
        yield len(samples)
        shutil.rmtree(folder / "webdataset")


def write_img2dataset(folder: Path) -> Iterator[int]:
    """From file:// addresses, without encoding; its processes start anew each time, as they do for a user."""
    from img2dataset import download

    samples = json.loads((folder / "samples.json").read_text())
    urls = folder / "urls.txt"
    urls.write_text("".join(f"file://{Path(sample['path']).resolve()}\n" for sample in samples))
    while True:
        download(
            url_list=str(urls), output_folder=str(folder / "img2dataset"), output_format="webdataset", resize_mode="no",
            disable_all_reencoding=True, processes_count=1, thread_count=4, number_sample_per_shard=1000,
        )  # fmt: skip
        done = sum(json.loads(path.read_text())["successes"] for path in (folder / "img2dataset").glob("*_stats.json"))
        if done != len(samples):
            raise ValueError(f"img2dataset wrote {done} of {len(samples)} images")
        yield done
        shutil.rmtree(folder / "img2dataset")


def _samples(folder: Path) -> list[Sample]:
    """(JPEG, JSON) of the training samples of the shard set."""
    import tarfile

    found: list[bytes] = []
    for path in sorted((folder / "shards").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            found += [tar.extractfile(member).read() for member in tar]
    return list(zip(found[::2], found[1::2], strict=True))


def _identity(sample: Sample) -> Sample:
    return sample


def main() -> None:
    name, folder, *rest = sys.argv[1:]
    settings = SimpleNamespace(**json.loads(rest[0])) if rest else SimpleNamespace()
    versions = {
        "webdataset + albumentations": ("webdataset", "opencv-python-headless", "albumentations"),
        "webdataset + torchvision": ("webdataset", "pillow", "torchvision"),
        "litdata": ("litdata",), "mosaicml-streaming": ("mosaicml-streaming",), "DALI": ("nvidia-dali-cuda120",),
        "webdataset": ("webdataset",), "img2dataset": ("img2dataset",),
    }  # fmt: skip
    loaders: dict[str, Callable[[], Iterator[int]]] = {
        "webdataset + albumentations": lambda: load_webdataset(Path(folder), settings, Albumentations(settings)),
        "webdataset + torchvision": lambda: load_webdataset(Path(folder), settings, Torchvision(settings)),
        "litdata": lambda: load_litdata(Path(folder), settings),
        "mosaicml-streaming": lambda: load_streaming(Path(folder), settings),
        "DALI": lambda: load_dali(Path(folder), settings),
        "webdataset": lambda: write_webdataset(Path(folder)),
        "img2dataset": lambda: write_img2dataset(Path(folder)),
    }
    from importlib.metadata import version

    serve(loaders[name](), ", ".join(f"{package} {version(package)}" for package in versions[name]))


if __name__ == "__main__":
    main()
