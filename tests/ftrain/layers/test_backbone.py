"""Backbones: weights of every origin at every image and patch size, pyramids, checkpointing, and rejected input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tests.ftrain.tiny_networks import FAMILIES
from timm.layers.drop import DropPath
from torch import nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig
from ftrain.layers.backbone import Backbone
from ftrain.layers.weights import backbone_weights, pixel_statistics, weights_to_come

REPOSITORY = "someone/test-vit"


def config_of(backbone: str, input_size: int = 64, **values: Any) -> BackboneConfig:
    return BackboneConfig.model_validate({"backbone": backbone, "input_size": input_size, **values})


def write_weights(path: Path, backbone: str, **options: Any) -> dict[str, torch.Tensor]:
    """Write random weights under the names of timm and return them."""
    torch.manual_seed(7)
    network = timm.create_model(backbone, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path)
    return state


def features_of(config: BackboneConfig) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): t for name, t in Backbone(config).features.state_dict().items()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("FASHIONKIT_DOWNLOAD", raising=False)
    return tmp_path / "hub"


def fill(hub: Path, repository: str, backbone: str, **settings: Any) -> dict[str, torch.Tensor]:
    """Put weights and their configuration into a cache, as `hf download` does."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"architecture": backbone, "pretrained_cfg": settings}))
    return write_weights(snapshot / "model.safetensors", backbone)


@pytest.mark.filterwarnings("ignore::UserWarning")  # timm's own call resamples tables with deprecated indexing
@pytest.mark.parametrize(
    ("backbone", "wanted"),
    [
        ("test_vit", {}),
        ("test_vit2", {"patch_size": 8}),
        ("siglip", {}),
        ("dinov3", {}),
        ("dinov3", {"patch_size": 8}),
        ("dinov2", {"patch_size": 16}),
        ("swin", {}),
        ("test_coatnet", {}),
        ("test_efficientnet", {}),
    ],
)
def test_weights_are_resampled_to_the_image_and_the_patch_as_in_timm(
    backbone: str, wanted: dict[str, Any], tmp_path: Path
) -> None:
    backbone, path = FAMILIES.get(backbone, (backbone,))[0], tmp_path / "weights.safetensors"
    state = write_weights(path, backbone)
    found = features_of(config_of(backbone, 96, weights=str(path), **wanted))
    sizes = {} if backbone == "test_efficientnet" else {"img_size": 96}
    reference = timm.create_model(
        backbone, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}, **sizes, **wanted
    )
    expected = {name.replace(".", "_"): tensor for name, tensor in reference.state_dict().items()}
    assert len(found) > 10
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name.replace(".", "_")]), name


def test_position_embeddings_that_timm_leaves_alone_are_resampled(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    hiera = FAMILIES["hiera"][0]
    state = write_weights(path, hiera)
    grid = torch.arange(56.0).expand(56, 56) / 55  # rises from left to right
    save_file({**state, "pos_embed": grid.reshape(1, -1, 1).repeat(1, 1, 16)}, path)
    found = features_of(config_of(hiera, 96, weights=str(path)))["pos_embed"]
    assert found.shape == (1, 24 * 24, 16)
    row = found[0, :, 0].reshape(24, 24)
    assert torch.allclose(row, row[:1].expand(24, 24), atol=1e-5)
    assert (row[0].diff() > 0).all()


@pytest.mark.parametrize(
    ("of", "options", "into"),
    [
        ("test_resnet", {}, "test_vit"),
        ("test_vit", {}, "test_resnet"),
        ("test_vit", {"embed_dim": 32, "num_heads": 2}, "test_vit"),
        ("test_vit", {}, "test_vit2"),
        ("test_vit", {}, FAMILIES["hiera"][0]),
        (FAMILIES["hiera"][0], {}, "test_vit"),
        ("test_convnext", {}, FAMILIES["swin"][0]),
    ],
)
def test_weights_of_another_network_are_a_sentence(of: str, options: dict[str, Any], into: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "weights.safetensors", of, **options)
    with pytest.raises(UsageError, match="use the weights of the same timm backbone") as refusal:
        Backbone(config_of(into, weights=str(tmp_path / "weights.safetensors")))
    assert "\n" not in str(refusal.value)


def test_weights_of_the_hub_come_from_its_cache_and_stay_with_the_run(hub: Path) -> None:
    state = fill(hub, REPOSITORY, "test_vit", mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])
    config = config_of("test_vit", 160, weights=f"hf-hub:{REPOSITORY}")
    backbone = Backbone(config)
    assert torch.equal(
        backbone.features.state_dict()["model.blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.weight"]
    )
    assert backbone.normalize.mean.flatten().tolist() == pytest.approx([127.5, 102, 76.5])
    (hub / f"models--{REPOSITORY.replace('/', '--')}").rename(hub / "gone")
    with weights_to_come():
        other = Backbone(config)
    other.load_state_dict(backbone.state_dict())
    assert torch.equal(other.normalize.mean, backbone.normalize.mean)
    assert torch.equal(other.normalize.std, backbone.normalize.std)


def test_weights_of_the_hub_name_their_network(hub: Path) -> None:
    fill(hub, REPOSITORY, "test_vit")
    with pytest.raises(UsageError, match=r"has weights of test_vit, not of test_vit2; set model\.backbone=test_vit"):
        Backbone(config_of("test_vit2", weights=f"hf-hub:{REPOSITORY}"))


@pytest.mark.parametrize(
    ("backbone", "weights", "repository"),
    [
        ("resnet50", "imagenet", "timm/resnet50.a1_in1k"),
        ("resnet50.a3_in1k", "imagenet", "timm/resnet50.a3_in1k"),
        ("vit_small_patch14_dinov2", "lvd142m", "timm/vit_small_patch14_dinov2.lvd142m"),
        ("test_vit", "hf-hub:someone/thing@v2", "someone/thing"),
    ],
)
def test_nothing_is_downloaded_unless_asked_for(
    backbone: str, weights: str, repository: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def download(repository: str, name: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.append((repository, revision, local_files_only))
        raise (FileNotFoundError if not local_files_only else LocalEntryNotFoundError)(name)

    from huggingface_hub.errors import LocalEntryNotFoundError

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(
        UsageError, match=rf"{repository} .*run `hf download {repository}`, or set .*FASHIONKIT_DOWNLOAD=1"
    ):
        backbone_weights(backbone, weights)
    revision = "v2" if "@" in weights else None
    assert set(asked) == {(repository, revision, True)}
    monkeypatch.setenv("FASHIONKIT_DOWNLOAD", "1")
    with pytest.raises(UsageError, match=f"{repository} could not be downloaded"):
        backbone_weights(backbone, weights)
    assert asked[-1] == (repository, revision, False)


def test_a_tag_chooses_weights_and_pixel_statistics(hub: Path) -> None:
    state = fill(hub, "timm/test_vit.r160_in1k", "test_vit")
    found = backbone_weights("test_vit", "r160_in1k")
    assert found is not None
    assert torch.equal(found["pos_embed"], state["pos_embed"])
    assert not torch.equal(
        pixel_statistics("vit_base_patch16_clip_224", "openai")[0], pixel_statistics("vit_base_patch16_224", "dino")[0]
    )


@pytest.mark.parametrize(
    ("backbone", "weights", "sentence"),
    [
        ("resnet50", "a9_in1k", r"neither a file nor a tag of resnet50 \(.*a1_in1k"),
        ("resnet50.a9_in1k", "imagenet", r"timm's resnet50 has no weights 'a9_in1k'; there are .*a1_in1k"),
        ("resnet50", "weights.safetensors", "no such weight file"),
    ],
)
def test_weights_that_do_not_exist_are_a_sentence(backbone: str, weights: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Backbone(config_of(backbone, weights=weights))


@pytest.mark.parametrize(
    ("backbone", "values", "sentence"),
    [
        (
            "vit_small_patch14_dinov2",
            {"input_size": 256},
            "input_size=256 is not a multiple of the 14 pixels.*choose 224",
        ),
        ("vit_small_patch14_dinov2", {"input_size": 576}, "choose 672"),
        ("vgg11", {"drop_path": 0.1}, "no such option; set model.drop_path=0"),
        ("test_resnet", {"patch_size": 16}, "no such option; set model.patch_size=0"),
        ("hrnet_w18_small", {"gradient_checkpointing": True}, "has no gradient checkpointing"),
        ("test_vit9", {}, "timm has no backbone 'test_vit9'; did you mean test_vit"),
    ],
)
def test_an_option_that_a_network_does_not_take_is_a_sentence(
    backbone: str, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        Backbone(config_of(backbone, **values))


@pytest.mark.parametrize(("backbone", "input_size"), [(FAMILIES["siglip"][0], 64), (FAMILIES["dinov3"][0], 96)])
def test_a_plain_transformer_has_a_pyramid(backbone: str, input_size: int) -> None:
    torch.manual_seed(0)
    network = Backbone(config_of(backbone, input_size), (4, 8, 16, 32)).eval()
    image = torch.randint(0, 255, (2, input_size, input_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        levels = network(image)
        whole = network.features.model.forward_features(network.normalize(image))
    assert [level.shape[1:] for level in levels] == [
        (width, input_size // stride, input_size // stride)
        for width, stride in zip(network.widths, (4, 8, 16, 32), strict=True)
    ]
    prefix = network.features.model.num_prefix_tokens
    torch.testing.assert_close(
        levels[2].flatten(2).transpose(1, 2), whole[:, prefix:]
    )  # normalized, without class token
    torch.testing.assert_close(levels[3].mean(dim=(2, 3)), whole[:, prefix:].mean(dim=1))


def test_patches_of_14_pixels_give_cells_of_16() -> None:
    network = Backbone(config_of(*FAMILIES["dinov2"]), (8, 16))
    with torch.no_grad():
        levels = network(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    assert [tuple(level.shape[1:]) for level in levels] == [(16, 28, 28), (32, 14, 14)]
    assert network.widths == (16, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_keeps_less_and_changes_no_gradient(family: str, one_thread: None) -> None:
    """Statistics of batch normalization apart: they see the recomputed batch as well."""
    found: list[tuple[int, dict[str, torch.Tensor]]] = []
    image = torch.randint(0, 255, (2, FAMILIES[family][1], FAMILIES[family][1], 3), dtype=torch.uint8)
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = Backbone(config_of(*FAMILIES[family], gradient_checkpointing=checkpointing)).train()
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = network(image)[-1].square().mean()
        held = sum(kept.values())
        loss.backward()
        found.append((held, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}))
    (plain, expected), (less, gradients) = found
    assert less < plain, (less, plain)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_paths_drop_in_training_only(family: str) -> None:
    torch.manual_seed(0)
    network = Backbone(config_of(*FAMILIES[family], drop_path=0.9))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)  # residual branches may begin at zero
    image = torch.randint(0, 255, (1, FAMILIES[family][1], FAMILIES[family][1], 3), dtype=torch.uint8)
    with torch.no_grad():
        network.eval()
        assert torch.equal(network(image)[-1], network(image)[-1])
        for module in network.modules():
            if isinstance(module, DropPath):
                module.train()
        assert len({float(network(image)[-1].sum()) for _ in range(8)}) > 1


def test_maps_of_another_size_than_their_stride_are_a_sentence() -> None:
    """Inception does not pad: its cells are at other places, and keypoints would be off."""
    with torch.device("meta"):
        network = Backbone(config_of("inception_v3", 224), (4, 16))
        image = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
        with pytest.raises(
            UsageError, match="'inception_v3' has 52 x 52 cells at stride 4 for images of 224 x 224 pixels"
        ):
            network(image)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_it_compiles_whole_and_runs_in_bfloat16(family: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")  # dynamo logs thousands of lines
    torch.manual_seed(0)
    network = Backbone(config_of(*FAMILIES[family]), (8, 16)).eval()
    image = torch.randint(0, 255, (2, FAMILIES[family][1], FAMILIES[family][1], 3), dtype=torch.uint8)
    torch._dynamo.reset()
    with torch.no_grad():
        expected = network(image)
        compiled = torch.compile(network, backend="eager", fullgraph=True)(image)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(image)
    for whole, one, other in zip(expected, compiled, half, strict=True):
        assert torch.equal(whole, one)
        torch.testing.assert_close(other.float(), whole, rtol=0.05, atol=0.05 * float(whole.abs().max()))
