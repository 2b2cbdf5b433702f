import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from hw3 import backbones
from hw3.backbones import load_weights, save_weights, vgg16_features
from hw3.errors import InputError

SHAPES = {name: value.shape for name, value in vgg16_features("random").state_dict().items()}


@pytest.fixture
def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_random_vgg16_is_torchvisions_network_with_its_initialisation() -> None:
    with torch.device("meta"):
        expected = {name: value.shape for name, value in vgg16().features.state_dict().items()}
    torch.manual_seed(0)
    first = vgg16_features("random")
    torch.manual_seed(0)
    second = vgg16_features("random")
    assert expected == SHAPES
    assert [str(layer) for layer in first] == [str(layer) for layer in vgg16_features("random")]
    assert torch.equal(first[28].weight, second[28].weight)
    assert first[28].weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert not first[28].bias.any()


def test_a_narrower_vgg16_has_a_share_of_the_channels_and_no_others_weights(tmp_path) -> None:
    narrow = vgg16_features("random", width=0.25)
    assert [layer.out_channels for layer in narrow if isinstance(layer, nn.Conv2d)] == [
        *(16, 16, 32, 32, 64, 64, 64),
        *(128, 128, 128, 128, 128, 128),
    ]
    assert narrow(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 1, 1)
    save_weights(vgg16_features("random"), tmp_path / "whole.safetensors")
    with pytest.raises(InputError, match=r"0\.weight has shape \(64, 3, 3, 3\) where \(16"):
        vgg16_features(str(tmp_path / "whole.safetensors"), width=0.25)


@pytest.mark.parametrize("prefix", ["features.", ""])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_local_vgg16_file_with_either_spelling_of_its_keys(tmp_path, prefix, ending) -> None:
    source = vgg16_features("random")
    wrapped = nn.ModuleDict({"features": source}) if prefix else source
    path = tmp_path / f"vgg.{ending}"
    if ending == "pth":
        torch.save(wrapped.state_dict() | {"classifier.0.bias": torch.zeros(3)}, path)
    else:
        save_weights(wrapped, path)
    loaded = vgg16_features(str(path))
    assert all(
        torch.equal(a, b) for a, b in zip(source.parameters(), loaded.parameters(), strict=True)
    )


def test_imagenet_weights_are_asked_of_torchvision(monkeypatch) -> None:
    state = {f"features.{name}": torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    state["classifier.6.weight"] = torch.zeros(1000, 4096)
    asked = []
    monkeypatch.setattr(backbones, "fetch_state", lambda weights: asked.append(weights) or state)
    assert vgg16_features("imagenet")[0].weight.unique().tolist() == [0.5]
    assert asked == [VGG16_Weights.IMAGENET1K_FEATURES]


def test_without_network_the_message_says_where_to_put_the_file(monkeypatch) -> None:
    def refuse(*_arguments, **_options):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(InputError, match=r"no network.*put the file into .*/checkpoints"):
        vgg16_features("imagenet")


def test_every_misfit_of_a_file_is_named(tmp_path) -> None:
    path = tmp_path / "bad.pth"
    state = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    del state["28.bias"]
    torch.save(state | {"extra": torch.zeros(1)}, path)
    with pytest.raises(InputError) as caught:
        vgg16_features(str(path))
    assert all(
        part in str(caught.value) for part in ("bad.pth", "28.bias is missing", "extra is un")
    )
    torch.save(state | {"0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(
        InputError, match=r"0\.weight has shape \(64, 1, 3, 3\) where \(64, 3, 3, 3\)"
    ):
        vgg16_features(str(path))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_foreign_files_are_refused_by_name(tmp_path, small, name, content) -> None:
    path = tmp_path / name
    with pytest.raises(InputError, match=f"{name}: no such"):
        load_weights(small, path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: not a"):
        load_weights(small, path)


def test_a_pickled_model_and_a_nested_checkpoint_are_refused(tmp_path, small) -> None:
    path = tmp_path / "model.pth"
    for content in (small, {"model": small.state_dict()}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(InputError, match=r"model\.pth: not a"):
            load_weights(small, path)


def test_saved_weights_come_back_whatever_their_memory_format(tmp_path, small) -> None:
    path = tmp_path / "folder" / "small.safetensors"
    small(torch.rand(2, 3, 5, 5))
    expected = {name: value.clone() for name, value in small.state_dict().items()}
    save_weights(small.to(memory_format=torch.channels_last), path)
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    load_weights(other, path)
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    assert [file.name for file in path.parent.iterdir()] == ["small.safetensors"]
