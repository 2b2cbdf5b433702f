"""Both detectors: torchvision's parts, how they start, what they learn from, what they find."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import ResNet50_Weights, detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from hw3.backbones import WEIGHTS, save_weights, vgg16_features
from hw3.data import InputError
from hw3.detection import models
from hw3.detection.models import build, predict
from hw3.detection.tiles import merge
from hw3.settings import FasterRcnnSettings, SsdSettings


def small_faster_rcnn(weights="random", **settings) -> nn.Module:
    small = dict(backbone="resnet50-fpn", width=0.0625, fpn_channels=16, crops=8)
    small |= dict(frozen_blocks=0, rois_per_image=32)
    return build(FasterRcnnSettings(**small | settings), weights)


def small_ssd300(weights="random", **settings) -> nn.Module:
    return build(SsdSettings(**dict(width=0.0625, frozen_blocks=0) | settings), weights)


def total_loss(model: nn.Module, images: list, targets: list) -> torch.Tensor:
    return sum(model(images, targets).values())


SMALL = {
    "faster-rcnn": small_faster_rcnn,
    "faster-rcnn vgg16": partial(small_faster_rcnn, backbone="vgg16-fpn"),
    "ssd300": small_ssd300,
}
each_kind = pytest.mark.parametrize("kind", SMALL)


def sure(model: nn.Module, threshold: float) -> nn.Module:
    """The model with another score threshold than the constant."""
    getattr(model, "roi_heads", model).score_thresh = threshold
    return model


def target(*boxes: list[float], label: int = 1) -> dict[str, torch.Tensor]:
    labels = torch.full((len(boxes),), label)
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": labels}


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    images = list(torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)))
    return images, [target([10.0, 10.0, 40.0, 40.0], [3.0, 3.0, 93.0, 93.0]), target()]


def of_kind(module: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def test_full_networks_have_torchvisions_parameters() -> None:
    sizes = [(16, 24), (32, 48), (64, 96), (128, 192), (256, 384)]
    with torch.device("meta"):  # only names and shapes are looked at
        options = dict(weights=None, weights_backbone=None, num_classes=5)
        anchors = AnchorGenerator(sizes, ((1.0,),) * 5)
        theirs = detection.fasterrcnn_resnet50_fpn(rpn_anchor_generator=anchors, **options)
        their_ssd = detection.ssd300_vgg16(**options)
    ours = build(FasterRcnnSettings())
    ssd = build(SsdSettings())
    found, expected = (
        {name: own for name, own in shapes(model).items() if "backbone.fpn" not in name}
        for model in (ours, theirs)
    )  # trained from random weights the pyramid has BatchNorm
    assert found == expected and shapes(ssd) == shapes(their_ssd)
    assert [*ours.rpn.anchor_generator.sizes] == sizes
    assert of_kind(ours, nn.BatchNorm2d)
    assert repr(ssd.anchor_generator) == repr(their_ssd.anchor_generator)
    assert list(ssd.transform.image_std) == their_ssd.transform.image_std


def test_a_vgg16_pyramid_takes_scaled_features_or_normalised_ones(tmp_path) -> None:
    save_weights(vgg16_features("random"), tmp_path / "vgg16.safetensors")
    full = SMALL["faster-rcnn vgg16"](weights=str(tmp_path / "vgg16.safetensors"), width=1.0)
    narrow = SMALL["faster-rcnn vgg16"]()
    image = torch.rand(1, 3, 64, 96)
    for model, scale in ((full, 0.02), (narrow, 1)):
        backbone = model.eval().backbone
        maps = {name: own * scale for name, own in backbone.body(image).items()}
        expected, found = backbone.fpn(maps), backbone(image)
        sizes = [tuple(own.shape[-2:]) for own in found.values()]
        assert sizes == [(16, 24), (8, 12), (4, 6), (2, 3)]
        for level in found:
            torch.testing.assert_close(found[level], expected[level])
    channels = [norm.num_features for norm in of_kind(narrow.backbone, nn.BatchNorm2d)]
    assert channels == [4] * 2 + [8] * 2 + [16] * 3 + [32] * 6


@pytest.mark.parametrize("blocks", range(6))
def test_frozen_blocks_are_counted_from_the_first(blocks) -> None:
    def frozen(model: nn.Module) -> list[bool]:
        return [not own.weight.requires_grad for own in of_kind(model.backbone, nn.Conv2d)]

    convolutions = (0, 2, 4, 7, 10, 13)[blocks]
    for kind in ("ssd300", "faster-rcnn vgg16"):
        found = frozen(SMALL[kind](frozen_blocks=blocks))
        assert found == [True] * convolutions + [False] * (len(found) - convolutions)
    parameters = small_faster_rcnn(frozen_blocks=blocks).backbone.body.named_parameters()
    names = {name.split(".")[0] for name, value in parameters if not value.requires_grad}
    stem, *layers = [{"conv1", "bn1"}, *({f"layer{k}"} for k in range(1, 5))][:blocks] or [set()]
    assert names == stem.union(*layers)


def test_images_are_resized_only_where_asked_to(monkeypatch) -> None:
    monkeypatch.setattr(models, "WHOLE_IMAGE", (40, 1333))
    image, tile = torch.rand(3, 80, 136), torch.rand(3, 300, 300)
    resized = small_faster_rcnn(crops=None).eval()
    assert resized.transform([image])[0].image_sizes == [(40, 68)]
    native = SMALL["faster-rcnn vgg16"]().eval()
    images, _ = native.transform([image])
    assert images.image_sizes == [(80, 136)]
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(3, 1, 1)
    torch.testing.assert_close(images.tensors[0, :, :80, :136], (image - mean) * 255)
    images, _ = small_ssd300().transform([image, tile])
    assert images.tensors.shape == (2, 3, 300, 300)
    torch.testing.assert_close(images.tensors[1], (tile - mean) * 255)


@each_kind
def test_gradients_reach_all_that_is_trained_and_are_finite_without_any_sign(kind: str) -> None:
    torch.manual_seed(0)
    model, (images, targets) = SMALL[kind](frozen_blocks=2).train(), batch()
    trained = {name for name, own in model.named_parameters() if own.requires_grad}
    for given, least in ((targets, 0.9), ([target(), target()], 0)):
        model.zero_grad()
        (loss := total_loss(model, images, given)).backward()
        found = {name: own.grad for name, own in model.named_parameters() if own.grad is not None}
        assert found.keys() <= trained and all(own.isfinite().all() for own in found.values())
        assert loss.isfinite() and sum(own.any() for own in found.values()) >= least * len(trained)


@each_kind
def test_predictions_are_arrays_within_the_image_above_the_threshold(kind: str) -> None:
    torch.manual_seed(0)
    model, image = SMALL[kind]().train(), torch.rand(3, 90, 150)
    for threshold in (models.SCORE_THRESHOLD, 0.15):
        found = predict(model, image)
        assert found["scores"].min() > threshold
        sure(model, 0.15)
    assert not model.training
    boxes, labels = found["boxes_xyxy"], found["labels"]
    assert boxes.shape == (len(labels), 4) and boxes.dtype == np.float32
    assert boxes.min() >= 0 and (boxes.max(axis=0) <= [150, 90, 150, 90]).all()
    assert labels.shape == found["scores"].shape and set(labels) <= {1, 2, 3, 4}
    assert (np.diff(found["scores"]) <= 0).all()
    assert predict(sure(model, 1.0), image)["boxes_xyxy"].shape == (0, 4)


def test_a_large_native_image_is_looked_at_in_parts(monkeypatch) -> None:
    assert max(models.PART**2, 800 * 1360) <= models.WHOLE_PIXELS
    assert models.PART_OVERLAP >= 160
    monkeypatch.setattr(models, "WHOLE_PIXELS", 240 * 240)
    monkeypatch.setattr(models, "PART", 240)
    monkeypatch.setattr(models, "PART_OVERLAP", 80)
    weights = WEIGHTS / "start_faster_rcnn.safetensors"
    model = SMALL["faster-rcnn vgg16"](weights=str(weights), width=0.25, fpn_channels=64)
    monkeypatch.setattr(models, "WHOLE_IMAGE", (40, 1333))
    resized, seen = small_faster_rcnn(crops=None), []
    for own in (model, resized):
        own.transform.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].shape))
    image = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    image = nn.functional.interpolate(image, scale_factor=20, mode="bilinear")[0]
    found, _ = predict(model, image), predict(resized, image)
    assert seen == [(3, 240, 240)] * 2 + [(3, 240, 400)]
    parts = [predict(model, image[..., x : x + 240]) for x in (0, 160)]
    expected = merge(parts, [(0, 0), (160, 0)], (240, 400), tile=240)
    assert len(found["scores"]) and all(np.array_equal(found[k], expected[k]) for k in found)


def test_contradicting_settings_are_refused() -> None:
    with pytest.raises(InputError, match="256 fpn_channels"):
        small_faster_rcnn(weights="coco", width=1.0)
    with pytest.raises(InputError, match=r"imagenet are for width 1, not 0\.0625"):
        small_ssd300(weights="imagenet")


@each_kind
def test_weights_of_a_detector_start_another(kind: str, tmp_path) -> None:
    state, path = SMALL[kind]().state_dict(), tmp_path / "start.pt"
    other = {name: state[name][:1] for name in state if name.startswith(models.OUTPUTS)}
    for new, given in ((set(), state), (other.keys(), state | other)):  # of other labels, anchors
        torch.save(given, path)
        found = SMALL[kind](weights=str(path)).state_dict()
        assert {name for name in found if found[name].shape != given[name].shape} == new
        assert all(torch.equal(found[name], given[name]) for name in found.keys() - new)


def test_a_resnets_batch_norm_goes_on_where_it_was_trained_and_its_pyramid_has_one(tmp_path):
    first = small_faster_rcnn()
    first.train()(*batch())
    path = tmp_path / "trained.pt"
    torch.save(first.state_dict(), path)
    model, images = small_faster_rcnn(weights=str(path)).eval(), torch.rand(1, 3, 64, 64)
    assert type(model.backbone.body.bn1) is nn.BatchNorm2d
    channels = [norm.num_features for norm in of_kind(model.backbone.fpn, nn.BatchNorm2d)]
    assert channels == [16] * 8  # of inner and outer layers
    expected = first.eval().backbone(images)["0"]
    torch.testing.assert_close(model.backbone(images)["0"], expected, rtol=1e-3, atol=1e-4)


def test_coco_weights_are_torchvisions_but_for_the_new_outputs(monkeypatch) -> None:
    torch.manual_seed(0)
    options = dict(weights=None, weights_backbone=None, num_classes=91)
    theirs = detection.fasterrcnn_resnet50_fpn(**options).eval()
    for layer in of_kind(theirs, nn.BatchNorm2d):
        layer.running_var.uniform_(1e-6, 1e-3)
        layer.eps = 0.0  # which is what these weights were trained with
    asked = []
    monkeypatch.setattr(models, "fetch_state", lambda w: asked.append(w) or theirs.state_dict())
    ours = build(FasterRcnnSettings(), "coco")
    assert asked == [detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1]
    images = torch.rand(1, 64, 4, 4)
    assert isinstance(ours.backbone.body.bn1, FrozenBatchNorm2d)
    torch.testing.assert_close(ours.backbone.body.bn1(images), theirs.backbone.body.bn1(images))


def test_published_weights_are_asked_of_torchvision(monkeypatch) -> None:
    asked, other = [], {"another": torch.zeros(1)}
    monkeypatch.setattr(models, "fetch_state", lambda own: asked.append(own) or other)
    for make, weights in ((small_ssd300, "coco"), (small_faster_rcnn, "imagenet")):
        with pytest.raises(InputError, match="is missing"):
            make(weights=weights, width=1.0)
    assert asked == [detection.SSD300_VGG16_Weights.COCO_V1, ResNet50_Weights.IMAGENET1K_V1]


def test_mixed_precision_does_not_move_boxes_far() -> None:
    torch.manual_seed(0)
    model = sure(small_faster_rcnn(), 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = predict(model, torch.rand(3, 256, 1344))
    assert found["boxes_xyxy"].dtype == np.float32
    x1 = found["boxes_xyxy"][:, 0]
    far = x1[(x1 > 1024) & (x1 < 1340)]
    assert far.size and (far % 4 != 0).any()  # steps of bfloat16 there: 8 pixels, with offsets 4


def test_anchors_are_not_rounded_under_mixed_precision() -> None:
    model = small_faster_rcnn()
    images = ImageList(torch.zeros(1, 3, 800, 1360), [(800, 1360)])
    full = [torch.zeros(1, 16, 800 // stride, 1360 // stride) for stride in (4, 8, 16, 32, 64)]
    [expected] = model.rpn.anchor_generator(images, full)
    [found] = model.rpn.anchor_generator(images, [own.bfloat16() for own in full])
    assert found.dtype == torch.float32
    assert found.equal(expected)


def test_the_hardest_background_is_what_plain_arithmetic_gives() -> None:
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 36.0], [100.0, 90.0, 160.0, 150.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([3, 1])},
        target(),
        {"boxes": boxes[1:], "labels": torch.tensor([2])},
    ]
    matched = [torch.full((50,), -1) for _ in range(3)]
    matched[0][[3, 7]], matched[0][9], matched[2][30] = 1, 0, 0
    anchors = [torch.tensor([[90.0, 90.0, 150.0, 150.0]]).repeat(50, 1)] * 3
    logits, shifts = (torch.randn(3, 50, n, generator=generator) for n in (5, 4))
    heads = {"cls_logits": logits, "bbox_regression": shifts}
    labels = torch.zeros(3, 50, dtype=torch.int64)
    labels[0, [3, 7, 9]], labels[2, 30] = torch.tensor([1, 1, 3]), 2
    each = -logits.log_softmax(2).gather(2, labels[..., None])[..., 0]
    moves = {(0, 3): boxes[1], (0, 7): boxes[1], (0, 9): boxes[0], (2, 30): boxes[1]}
    given = torch.stack([shifts[at] for at in moves])

    def hardest(part: int | slice) -> torch.Tensor:
        signs = (labels[part] > 0).sum()
        return each[part][labels[part] == 0].sort(descending=True).values[: 3 * signs].sum()

    for mining, parts in (("image", range(3)), ("batch", [slice(3)])):
        model = small_ssd300(mining=mining)
        losses = model.compute_loss(targets, heads, anchors, matched)
        expected = (each[labels > 0].sum() + sum(map(hardest, parts))) / 4
        torch.testing.assert_close(losses["classification"], expected)
        wanted = model.box_coder.encode_single(torch.stack([*moves.values()]), anchors[0][:4])
        moved = nn.functional.smooth_l1_loss(given, wanted, reduction="sum")
        torch.testing.assert_close(losses["bbox_regression"], moved / 4)
