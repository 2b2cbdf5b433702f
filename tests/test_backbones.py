"""VGG16, weights files that are not what they should be, and the weights that the package ships."""

import os
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

import ship_weights
from hw3 import backbones, records, settings, training
from hw3.backbones import WEIGHTS, load_weights, save_weights, vgg16_features
from hw3.data import InputError, file_sha256
from hw3.detection import ap, experiment
from hw3.detection.gtsdb import read_gtsdb
from hw3.records import RunRecord
from hw3.simulated.roads import simulate_gtsdb

GTSDB = Path(os.environ.get("HW3_DATA", "")) / "FullIJCNN2013"
SHAPES = {name: value.shape for name, value in vgg16_features("random").state_dict().items()}
IMAGENET = VGG16_Weights.IMAGENET1K_FEATURES


@pytest.fixture
def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_random_vgg16_is_torchvisions_network_with_its_initialisation() -> None:
    with torch.device("meta"):
        expected = {name: value.shape for name, value in vgg16().features.state_dict().items()}
    assert expected == SHAPES
    torch.manual_seed(0)
    layer = vgg16_features("random")[5]  # 64 channels in, 128 out
    assert layer.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.01)
    assert not layer.bias.any()


@pytest.mark.parametrize("prefix", ["features.", ""])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_local_vgg16_file_with_either_spelling_of_its_keys(tmp_path, prefix, ending) -> None:
    source, path = vgg16_features("random"), tmp_path / f"vgg.{ending}"
    state = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    state["classifier.0.bias"] = torch.zeros(3)
    safetensors.torch.save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    loaded = vgg16_features(str(path)).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in source.state_dict().items())


def test_imagenet_weights_are_asked_of_torchvision(monkeypatch) -> None:
    state = {f"features.{name}": torch.full(shape, 0.5) for name, shape in SHAPES.items()}
    state["classifier.6.weight"] = torch.zeros(1000, 4096)
    asked = []
    monkeypatch.setattr(backbones, "fetch_state", lambda weights: asked.append(weights) or state)
    assert vgg16_features("imagenet")[0].weight.unique().tolist() == [0.5]
    assert asked == [IMAGENET]


@pytest.mark.parametrize("damage", ["garbage", "other weights"])
def test_a_damaged_file_of_torchvision_is_named(tmp_path, monkeypatch, damage) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / IMAGENET.url.rsplit("/", 1)[-1]
    file.parent.mkdir()
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, file)
    if damage == "garbage":
        file.write_bytes(b"<html>")
    with pytest.raises(InputError, match=f"{file.name} is damaged: delete .*{file.name}"):
        vgg16_features("imagenet")


def test_a_path_that_is_not_utf8_is_read(tmp_path) -> None:
    path = tmp_path / "caf\udce9.safetensors"
    save_weights(nn.Linear(1, 1), path)
    assert list(backbones.read_state(path)) == ["bias", "weight"]


def test_every_misfit_of_a_file_is_named(tmp_path) -> None:
    path = tmp_path / "bad.pth"
    state = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    del state["28.bias"]
    torch.save(state | {"extra": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"bad\.pth: .*28\.bias is missing; extra is unexpected"):
        vgg16_features(str(path))
    torch.save(state | {"0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(InputError, match=r"0\.weight has shape \(64, 1, 3, 3\) where \(64, 3"):
        vgg16_features(str(path))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (nn.Linear(1, 1), "UnpicklingError"),
        ([1, 2], "a list instead of a state dict"),
        ({"0.we\nght": torch.ones(1)}, r"the key '0\.we\\nght' is no name"),
        ({"0.weight": torch.ones(2).to_sparse()}, r"0\.weight is no dense tensor"),
        ({"epoch": 3}, "epoch is no dense tensor"),
        ({"0.weight": torch.tensor([1.0, torch.nan])}, r"0\.weight holds numbers that are not fin"),
        ({"0.bias": torch.tensor([torch.inf]).half()}, r"0\.bias holds numbers that are not fin"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_what_torch_can_save_and_no_network_can_take(tmp_path, small, content, fault) -> None:
    path = tmp_path / "model.pth"
    with pytest.raises(InputError, match=r"model\.pth: no such"):
        load_weights(small, path)
    torch.save(content, path)
    with pytest.raises(InputError, match=rf"model\.pth: not usable as weights \({fault}") as caught:
        load_weights(small, path)
    assert "\n" not in str(caught.value)


def test_saved_weights_come_back_whatever_their_memory_format(tmp_path, small) -> None:
    path = tmp_path / "folder" / "small.safetensors"
    small(torch.rand(2, 3, 5, 5))
    expected = {name: value.clone() for name, value in small.state_dict().items()}
    save_weights(small.to(memory_format=torch.channels_last), path)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_weights(other, path)
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    assert [file.name for file in path.parent.iterdir()] == ["small.safetensors"]


def test_weights_to_start_from_are_kept_halved_with_their_record(tmp_path) -> None:
    weights = tmp_path / "run.safetensors"
    state = {"kernel": torch.full((2, 3), 1.5), "running_var": torch.tensor([1e6])}
    safetensors.torch.save_file(state, weights)
    record = RunRecord("start-ssd300", {"model": "ssd300"}, {}, seed=1, key="0123456789abcdef")
    record.weights = {"sha256": file_sha256(weights)}
    record.save(weights.with_suffix(".json"))
    target = ship_weights.keep(weights.with_suffix(".json"), tmp_path)
    assert target == tmp_path / "hw3/weights/start_ssd300.safetensors"
    with safetensors.safe_open(target, "pt") as file:
        assert file.metadata() == {"run": "start-ssd300-0123456789"}
        assert file.get_tensor("kernel").dtype == torch.float16
        assert file.get_tensor("running_var").item() == 1e6  # too large for half precision
    assert records.load(tmp_path / "book/runs/simulated/start-ssd300.json") == record


def test_the_shipped_weights_are_small() -> None:
    files = list(WEIGHTS.glob("*.safetensors"))
    assert len(files) == 5 and sum(path.stat().st_size for path in files) <= 24e6


@pytest.mark.parametrize("model", [*settings.REPORT])
def test_the_shipped_weights_are_those_of_a_run_in_the_book(model) -> None:
    shipped = records.load(records.shipped(model))
    run = records.load(ship_weights.ROOT / f"book/runs/{shipped.name}.json")
    assert shipped.weights["run_sha256"] == run.weights["sha256"]
    records.check_weights(shipped, records.shipped(model).with_suffix(".safetensors"))
    assert (shipped.settings, shipped.commit) == (run.settings, run.commit)


@pytest.mark.skipif(not GTSDB.is_dir(), reason="HW3_DATA holds no published GTSDB")
@pytest.mark.parametrize("model", ["faster-rcnn", "ssd300"])
def test_the_shipped_weights_score_as_their_run_did(model) -> None:
    chosen, detector = experiment.load(records.shipped(model))
    name = records.load(records.shipped(model)).name
    run = records.load(ship_weights.ROOT / f"book/runs/{name}.json")
    alone, tested = training.make_accelerator("no"), run.data["split"]["test"]
    found = experiment.evidence(chosen, detector, read_gtsdb(GTSDB), tested, alone)
    now = ap.scores(ap.match(found["truths"], found["detections"]), resamples=2)
    assert now["ap50"] == pytest.approx(run.results["ap50"], abs=0.002)


@pytest.mark.parametrize("model", ["faster-rcnn", "ssd300"])
def test_the_start_weights_find_signs_on_new_roads(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HW3_PROFILE", "sample")
    chosen = settings.recipe(model)
    weights = WEIGHTS / f"start_{model.replace('-', '_')}.safetensors"
    record = records.load(ship_weights.ROOT / f"book/runs/simulated/start-{model}.json")
    with safetensors.safe_open(weights, "pt") as file:
        assert file.metadata() == {"run": record.stem}
    dataset = read_gtsdb(simulate_gtsdb(tmp_path, images=6, seed=77, width=680, height=400))
    detector = experiment.build(chosen, str(weights))
    alone = training.make_accelerator("no")
    found = experiment.evidence(chosen, detector, dataset, dataset.image_ids, alone)
    assert sum(len(truth["labels"]) for truth in found["truths"]) >= 4
    assert ap.scores(ap.match(**found), resamples=2)["ap50"] > 0.4
