import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    SSD300_VGG16_Weights,
    fasterrcnn_resnet50_fpn,
    ssd300_vgg16,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from hw3.backbones import load_weights, save_weights, vgg16_features
from hw3.detection import models
from hw3.detection.models import (
    build_faster_rcnn,
    build_ssd300,
    check_targets,
    predict,
    predict_batch,
    total_loss,
)
from hw3.errors import InputError

FIVE_LEVELS = ((16,), (32,), (64,), (128,), (256,))
FOUR_LEVELS = ((16, 24), (32, 48), (64, 96), (128, 192))
COCO_RATIOS = (0.5, 1.0, 2.0)


def small_faster_rcnn(**settings) -> nn.Module:
    small = dict(
        backbone="resnet50-fpn",
        weights="random",
        anchor_sizes=FIVE_LEVELS,
        width=0.0625,
        fpn_channels=16,
        frozen_blocks=0,
        rois_per_image=32,
    )
    return build_faster_rcnn(**small | settings)


def small_ssd300(**settings) -> nn.Module:
    return build_ssd300(**dict(weights="random", width=0.0625, frozen_convolutions=0) | settings)


SMALL = {
    "faster-rcnn": small_faster_rcnn,
    "faster-rcnn vgg16": partial(small_faster_rcnn, backbone="vgg16-fpn", anchor_sizes=FOUR_LEVELS),
    "ssd300": small_ssd300,
}


def target(*boxes: list[float], label: int = 1) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.full((len(boxes),), label),
    }


def batch(side: int = 96) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    images = list(torch.rand(2, 3, side, side, generator=generator))
    return images, [target([10.0, 10.0, 40.0, 40.0], [3.0, 3.0, 93.0, 93.0]), target()]


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def meta():
    """Full networks of torchvision without memory: only names and shapes are looked at."""
    with torch.device("meta"):
        return (
            fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5),
            ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5),
        )


def test_full_networks_have_torchvisions_parameters(meta) -> None:
    ours = build_faster_rcnn(
        backbone="resnet50-fpn",
        weights="random",
        anchor_sizes=FIVE_LEVELS,
        aspect_ratios=COCO_RATIOS,
    )
    assert shapes(ours) == shapes(meta[0])
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in ours.modules())
    ssd = build_ssd300(weights="random")
    assert shapes(ssd) == shapes(meta[1])
    assert ssd.anchor_generator.scales == meta[1].anchor_generator.scales
    assert ssd.anchor_generator.aspect_ratios == meta[1].anchor_generator.aspect_ratios
    assert list(ssd.transform.image_mean) == meta[1].transform.image_mean
    assert list(ssd.transform.image_std) == meta[1].transform.image_std


def test_vgg16_pyramid_takes_scaled_features_of_native_images(tmp_path) -> None:
    features = vgg16_features("random")
    path = tmp_path / "vgg16.safetensors"
    save_weights(features, path)
    model = build_faster_rcnn(
        backbone="vgg16-fpn", weights=str(path), anchor_sizes=FOUR_LEVELS, fpn_channels=8
    ).eval()
    image = torch.rand(3, 70, 90)
    images, _ = model.transform([image])
    assert images.image_sizes == [(70, 90)]
    assert images.tensors.shape == (1, 3, 96, 96)
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(3, 1, 1)
    torch.testing.assert_close(images.tensors[0, :, :70, :90], (image - mean) * 255)
    maps = model.backbone(images.tensors)
    assert [tuple(value.shape[1:]) for value in maps.values()] == [
        (8, 24, 24),
        (8, 12, 12),
        (8, 6, 6),
        (8, 3, 3),
    ]
    conv5_3 = features[:30](images.tensors)
    expected = model.backbone.fpn.layer_blocks[2](
        model.backbone.fpn.inner_blocks[2](conv5_3 * 0.02)
    )
    torch.testing.assert_close(maps["2"], expected)
    frozen = [name for name, p in model.backbone.named_parameters() if not p.requires_grad]
    assert [name for name in frozen if name.endswith("weight")] == [
        f"body.{layer}.weight" for layer in (0, 2, 5, 7)
    ]


def test_frozen_layers_are_counted_from_the_first() -> None:
    def frozen(model: nn.Module) -> set[str]:
        parameters = model.backbone.named_parameters()
        return {name.split(".")[1] for name, value in parameters if not value.requires_grad}

    assert frozen(small_faster_rcnn()) == set()
    assert frozen(small_faster_rcnn(frozen_blocks=2)) == {"conv1", "bn1", "layer1"}
    ssd = small_ssd300(frozen_convolutions=4)
    weights = [layer.weight for layer in ssd.backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert [weight.requires_grad for weight in weights[:6]] == [False] * 4 + [True] * 2


def test_images_are_resized_only_where_asked_to() -> None:
    image = torch.rand(3, 80, 136)
    model = small_faster_rcnn(image_size=(40, 1333)).eval()
    assert model.transform([image])[0].image_sizes == [(40, 68)]
    assert small_faster_rcnn().transform([image])[0].image_sizes == [(80, 136)]
    ssd = small_ssd300()
    assert ssd.transform([image])[0].tensors.shape == (1, 3, 300, 300)
    tile = torch.rand(3, 300, 300)
    mean = torch.tensor(ssd.transform.image_mean).view(3, 1, 1)
    torch.testing.assert_close(ssd.transform([tile])[0].tensors[0], (tile - mean) * 255)


@pytest.mark.parametrize("kind", SMALL)
def test_two_steps_lower_the_loss_and_leave_frozen_weights(kind: str) -> None:
    torch.manual_seed(0)
    frozen = {"frozen_convolutions": 4} if kind == "ssd300" else {"frozen_blocks": 2}
    model = SMALL[kind](**frozen).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    losses = []
    for _ in range(6):
        torch.manual_seed(2)
        loss = total_loss(model, *batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = dict(model.named_parameters())
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed <= {name for name, value in after.items() if value.requires_grad}
    assert len(changed) > 0.9 * len(trained)  # some levels of SSD may have drawn no box


@pytest.mark.parametrize("kind", SMALL)
def test_loss_is_the_sum_of_torchvisions_parts(kind: str) -> None:
    model = SMALL[kind]().train()
    torch.manual_seed(0)
    parts = model(*batch())
    torch.manual_seed(0)
    expected = sum(part.item() for part in parts.values())
    assert total_loss(model, *batch()).item() == pytest.approx(expected)
    assert len(parts) == (2 if kind == "ssd300" else 4)


@pytest.mark.parametrize("kind", SMALL)
def test_a_batch_without_any_sign_has_a_finite_loss(kind: str) -> None:
    model = SMALL[kind]().train()
    loss = total_loss(model, batch()[0], [target(), target()])
    loss.backward()
    assert math.isfinite(loss.item())
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", SMALL)
def test_predictions_are_arrays_within_the_image_above_the_threshold(kind: str) -> None:
    torch.manual_seed(0)
    model = SMALL[kind](score_threshold=0.15).train()
    image = torch.rand(3, 90, 150)
    found = predict(model, image)
    assert not model.training
    assert set(found) == {"boxes_xyxy", "labels", "scores"}
    count = len(found["scores"])
    assert count > 0
    assert found["boxes_xyxy"].shape == (count, 4) and found["boxes_xyxy"].dtype == np.float32
    assert found["labels"].shape == (count,) and set(found["labels"]) <= {1, 2, 3, 4}
    assert found["scores"].min() > 0.15
    assert (np.diff(found["scores"]) <= 0).all()
    assert found["boxes_xyxy"].min() >= 0
    assert (found["boxes_xyxy"].max(axis=0) <= [150, 90, 150, 90]).all()
    nothing = predict(SMALL[kind](score_threshold=1.0), image)
    assert nothing["boxes_xyxy"].shape == (0, 4)


def test_a_batch_gives_what_single_images_give() -> None:
    model = small_ssd300(score_threshold=0.15)
    images = list(torch.rand(2, 3, 300, 300))
    for one, image in zip(predict_batch(model, images), images, strict=True):
        alone = predict(model, image)
        np.testing.assert_allclose(one["boxes_xyxy"], alone["boxes_xyxy"], atol=1e-2)
        np.testing.assert_array_equal(one["labels"], alone["labels"])


def test_all_faults_of_targets_are_named() -> None:
    check_targets([target(), target([1.0, 2.0, 3.0, 4.0])])
    bad = [
        target([5.0, 5.0, 5.0, 9.0], [1.0, 1.0, 2.0, 2.0]),
        target([0.0, 0.0, 4.0, 4.0], label=0),
        target([3.0, 8.0, 9.0, 2.0], [0.0, 0.0, math.nan, 4.0]),
    ]
    with pytest.raises(InputError) as caught:
        total_loss(small_ssd300(), batch()[0], bad)
    message = str(caught.value)
    assert "target 0: box [5.0, 5.0, 5.0, 9.0]" in message
    assert "target 1: a label below 1" in message
    assert message.count("target 2: box") == 2 and "[1.0, 1.0" not in message


def test_contradicting_settings_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="4 levels, resnet50-fpn has 5"):
        small_faster_rcnn(anchor_sizes=FOUR_LEVELS)
    with pytest.raises(InputError, match="256 fpn_channels"):
        small_faster_rcnn(weights="coco", width=1.0)
    with pytest.raises(InputError, match="no fpn_norm"):
        small_faster_rcnn(weights="coco", width=1.0, fpn_channels=256, fpn_norm=True)
    path = tmp_path / "vgg16.safetensors"
    save_weights(vgg16_features("random"), path)
    with pytest.raises(InputError, match=r"vgg16\.safetensors are for width 1, not 0\.0625"):
        small_ssd300(weights=str(path))


def test_a_narrow_vgg16_pyramid_normalises_instead_of_scaling() -> None:
    model = SMALL["faster-rcnn vgg16"]().eval()
    body = model.backbone.body
    norms = [layer for layer in body.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [4] * 2 + [8] * 2 + [16] * 3 + [32] * 6
    image = torch.rand(1, 3, 64, 96)
    expected = model.backbone.fpn(body(image))
    for level, features in model.backbone(image).items():
        torch.testing.assert_close(features, expected[level])
    assert [tuple(f.shape[-2:]) for f in expected.values()] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("kind", SMALL)
def test_weights_of_a_detector_start_another(kind: str, tmp_path) -> None:
    path = tmp_path / "start.safetensors"
    first = SMALL[kind](score_threshold=0.1)
    save_weights(first, path)
    same = SMALL[kind](weights=str(path), score_threshold=0.1)
    image = torch.rand(3, 96, 96)
    np.testing.assert_allclose(
        predict(first, image)["scores"], predict(same, image)["scores"], rtol=1e-3
    )
    fewer = SMALL[kind](weights=str(path), labels=2)
    own, given = fewer.state_dict(), first.state_dict()
    other = {name for name, value in own.items() if value.shape != given[name].shape}
    assert other and all(name.startswith(models.OUTPUTS) for name in other)
    assert all(torch.equal(own[name], given[name]) for name in own.keys() - other)
    with pytest.raises(InputError, match=r"start\.safetensors: not this network's weights"):
        load_weights(fewer, path)


def test_a_detectors_batch_norm_is_trained_on_if_it_was_trained(tmp_path) -> None:
    path = tmp_path / "start.safetensors"
    first = small_faster_rcnn()
    first.train()(*batch())
    save_weights(first, path)
    second = small_faster_rcnn(weights=str(path)).train()
    norms = [layer for layer in second.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and all(norm.weight.requires_grad for norm in norms)
    assert norms[0].num_batches_tracked == 1
    second(*batch())
    assert norms[0].num_batches_tracked == 2


@pytest.mark.parametrize("kind", ["faster-rcnn", "faster-rcnn vgg16"])
def test_a_pyramids_batch_norm_makes_features_ordinary(kind: str) -> None:
    plain, normalised = (SMALL[kind](fpn_norm=own).backbone.train() for own in (False, True))
    assert not [layer for layer in plain.fpn.modules() if isinstance(layer, nn.BatchNorm2d)]
    norms = [layer for layer in normalised.fpn.modules() if isinstance(layer, nn.BatchNorm2d)]
    levels = 4 if kind == "faster-rcnn" else 3
    assert [norm.num_features for norm in norms] == [16] * 2 * levels  # inner and outer layers
    for features in list(normalised(torch.rand(2, 3, 96, 96)).values())[:levels]:
        mean, deviation = features.mean((0, 2, 3)), features.std((0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(deviation, torch.ones(16), atol=1e-2, rtol=0)


def test_a_pyramids_batch_norm_does_not_thaw_that_of_the_backbone(tmp_path) -> None:
    image_net, detector = tmp_path / "imagenet.safetensors", tmp_path / "detector.safetensors"
    save_weights(resnet50(), image_net)
    settings = dict(width=1.0, fpn_norm=True)
    save_weights(small_faster_rcnn(weights=str(image_net), **settings), detector)
    again = small_faster_rcnn(weights=str(detector), **settings)
    assert [layer for layer in again.modules() if isinstance(layer, nn.BatchNorm2d)]
    body = again.backbone.body.modules()
    assert not [layer for layer in body if isinstance(layer, nn.BatchNorm2d)]


def test_a_detectors_frozen_batch_norm_stays_so_and_keeps_its_function(tmp_path) -> None:
    path = tmp_path / "start.pt"
    first = small_faster_rcnn()
    first.train()(*batch())
    state = first.state_dict()
    torch.save({name: state[name] for name in state if "num_batches_tracked" not in name}, path)
    second = small_faster_rcnn(weights=str(path))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in second.modules())
    images = torch.rand(1, 3, 64, 64)
    expected = first.eval().backbone(images)["0"]
    torch.testing.assert_close(second.backbone(images)["0"], expected, rtol=1e-3, atol=1e-4)
    other_anchors = small_faster_rcnn(weights=str(path), anchor_sizes=[(16, 24)] * 5)
    assert torch.equal(other_anchors.rpn.head.conv[0][0].weight, first.rpn.head.conv[0][0].weight)
    assert other_anchors.rpn.head.cls_logits.out_channels == 2


def test_coco_weights_are_torchvisions_but_for_the_new_outputs(monkeypatch) -> None:
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(1e-6, 1e-3)
            layer.eps = 0.0  # which is what these weights were trained with
    asked = []
    monkeypatch.setattr(models, "fetch_state", lambda w: asked.append(w) or theirs.state_dict())
    ours = build_faster_rcnn(
        backbone="resnet50-fpn",
        weights="coco",
        anchor_sizes=FIVE_LEVELS,
        aspect_ratios=COCO_RATIOS,
    )
    assert asked == [FasterRCNN_ResNet50_FPN_Weights.COCO_V1]
    assert ours.roi_heads.box_predictor.cls_score.out_features == 5
    assert torch.equal(ours.rpn.head.cls_logits.weight, theirs.rpn.head.cls_logits.weight)
    assert torch.equal(ours.roi_heads.box_head.fc6.weight, theirs.roi_heads.box_head.fc6.weight)
    images = torch.rand(1, 64, 4, 4)
    assert isinstance(ours.backbone.body.bn1, FrozenBatchNorm2d)
    torch.testing.assert_close(ours.backbone.body.bn1(images), theirs.backbone.body.bn1(images))


def test_published_weights_are_asked_of_torchvision(monkeypatch) -> None:
    asked = []

    def fetch(weights):
        asked.append(weights)
        raise InputError("no network")

    monkeypatch.setattr(models, "fetch_state", fetch)
    for build in (
        lambda: build_ssd300(weights="coco"),
        lambda: small_faster_rcnn(weights="imagenet", width=1.0),
    ):
        with pytest.raises(InputError, match="no network"):
            build()
    assert asked == [SSD300_VGG16_Weights.COCO_V1, ResNet50_Weights.IMAGENET1K_V1]


def test_mixed_precision_does_not_move_boxes_far() -> None:
    torch.manual_seed(0)
    model = build_faster_rcnn(
        backbone="resnet50-fpn",
        weights="random",
        width=0.0625,
        fpn_channels=16,
        anchor_sizes=((16,), (32,), (64,), (128,), (256,)),
        score_threshold=0.0,
    ).eval()
    image = torch.rand(3, 256, 1344)
    with torch.autocast("cpu", torch.bfloat16):
        found = predict(model, image)
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


def test_a_picture_without_signs_teaches_ssd_nothing() -> None:
    """Its loss takes three negatives for each positive, so that none are taken from such a picture:
    crops laid anywhere are lost on it."""
    model = build_ssd300(weights="random", width=1 / 16).train()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert total_loss(model, [torch.rand(3, 300, 300)], [nothing]).item() == 0


@pytest.mark.parametrize(("mining", "teaches"), [("image", False), ("batch", True)])
def test_a_picture_without_signs_teaches_ssd_beside_one_with_signs(mining, teaches) -> None:
    """Where the background is mined from the batch. A batch without any sign stays empty."""
    sign = {"boxes": torch.tensor([[5.0, 5.0, 45.0, 45.0]]), "labels": torch.tensor([4])}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    model = build_ssd300(weights="random", width=1 / 16, mining=mining).train()
    model.backbone.eval()  # BatchNorm would tie the pictures of a batch together
    images = [torch.rand(3, 300, 300).requires_grad_() for _ in range(2)]
    total_loss(model, images, [sign, nothing]).backward()
    assert [bool(image.grad.any()) for image in images] == [True, teaches]
    assert total_loss(model, images[:1], [nothing]).item() == 0


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_mining_from_the_batch_is_what_plain_arithmetic_gives(order) -> None:
    model = build_ssd300(weights="random", width=1 / 16, mining="batch")
    generator = torch.Generator().manual_seed(1)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 36.0], [100.0, 90.0, 160.0, 150.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([3, 1])},
        {"boxes": boxes[:0], "labels": torch.tensor([], dtype=torch.int64)},
        {"boxes": boxes[1:], "labels": torch.tensor([2])},
    ]
    matched = [torch.full((50,), -1) for _ in range(3)]
    matched[0][[3, 7]], matched[0][9], matched[2][30] = 1, 0, 0
    anchors = [torch.tensor([[90.0, 90.0, 150.0, 150.0]]).repeat(50, 1)] * 3
    logits, shifts = (torch.randn(3, 50, n, generator=generator) for n in (5, 4))
    heads = {"cls_logits": logits[order], "bbox_regression": shifts[order]}
    losses = model.compute_loss(
        [targets[own] for own in order], heads, anchors, [matched[own] for own in order]
    )
    labels = torch.zeros(3, 50, dtype=torch.int64)
    labels[0, 3] = labels[0, 7] = 1
    labels[0, 9], labels[2, 30] = 3, 2
    each = -logits.log_softmax(2).gather(2, labels[..., None])[..., 0]
    hardest = each[labels == 0].sort(descending=True).values[: 3 * 4]
    expected = (each[labels > 0].sum() + hardest.sum()) / 4
    torch.testing.assert_close(losses["classification"], expected)
    moves = {(0, 3): boxes[1], (0, 7): boxes[1], (0, 9): boxes[0], (2, 30): boxes[1]}
    moved = sum(
        torch.nn.functional.smooth_l1_loss(
            shifts[place],
            model.box_coder.encode_single(box[None], anchors[0][:1])[0],
            reduction="sum",
        )
        for place, box in moves.items()
    )
    torch.testing.assert_close(losses["bbox_regression"], moved / 4)


def test_the_box_head_draws_from_the_best_proposals_only(monkeypatch) -> None:
    model = small_faster_rcnn(proposals=20).train()
    numbers: list[int] = []
    select = model.roi_heads.select_training_samples

    def note(proposals, targets):
        numbers.extend(map(len, proposals))
        return select(proposals, targets)

    monkeypatch.setattr(model.roi_heads, "select_training_samples", note)
    target = {"boxes": torch.tensor([[5.0, 5.0, 45.0, 45.0]]), "labels": torch.tensor([4])}
    total_loss(model, [torch.rand(3, 128, 128)], [target])
    assert numbers == [20]
