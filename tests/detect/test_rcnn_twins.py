"""The parts of the R-CNN family against torchvision's, on equal weights."""

import dataclasses

import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.rpn import RPNHead as TheirHead
from torchvision.ops import MultiScaleRoIAlign, roi_pool

from anchors.coding import decode_deltas, encode_deltas
from anchors.sampling import sampled
from detect.models import faster_rcnn as faster
from detect.models import region_based as family
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.heads import roi, rpn
from detect.types import Postprocess
from tests.reference.regions import boxes_in, make_target

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=96)
STRIDES = [8, 16, 32]
SIZES = [[8.0 * (i + 1), 6.0 * (i + 1)] for i in range(9)]


def small() -> Model:
    torch.manual_seed(0)
    config = dataclasses.replace(model_config("faster_rcnn"), width=16, hidden=[16], anchors=SIZES)
    return build(config, CARD)


def their_rpn(head: rpn.RPNHead, width: int) -> RegionProposalNetwork:
    """torchvision's network with the weights of ours, and anchors of which ours are a shifted copy."""
    reference = TheirHead(width, head.sizes.shape[1])
    pairs = {"conv.0.0": head.hidden[0], "cls_logits": head.objectness, "bbox_pred": head.deltas}
    for name, layer in pairs.items():
        reference.get_submodule(name).load_state_dict(layer.state_dict())
    counts = {"training": rpn.BEST, "testing": rpn.BEST}, {"training": head.most, "testing": head.most}
    anchors = AnchorGenerator(tuple((rpn.SCALE * s,) for s in STRIDES), (rpn.RATIOS,) * 3)
    return RegionProposalNetwork(anchors, reference, 0.7, 0.3, faster.ANCHORS, faster.SHARE, *counts, rpn.IOU).eval()


def maps(width: int = 8, count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, 96 // s, 128 // s, generator=generator) for s in STRIDES]


def test_anchors_are_those_of_torchvision_about_the_middle_of_a_cell():
    generator = AnchorGenerator(tuple((rpn.SCALE * s,) for s in STRIDES), (rpn.RATIOS,) * 3)
    reference = generator(ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)]), maps(count=1))[0]
    priors = rpn.RPNHead(8, STRIDES)(maps(count=1)).priors
    assert (priors.boxes - priors.strides[:, None] / 2 - reference).abs().max() <= 0.5  # theirs are rounded
    assert torch.allclose((priors.boxes[:, 2:] - priors.boxes[:, :2]).prod(1), (rpn.SCALE * priors.strides) ** 2)


def test_codes_are_those_of_torchvision():
    a, b = boxes_in(200), boxes_in(200, seed=1)
    coder = BoxCoder(family.WEIGHTS)
    codes = encode_deltas(a, b, family.WEIGHTS)
    assert torch.allclose(codes, coder.encode_single(a, b), atol=1e-4)
    wild = codes * 3
    assert torch.allclose(decode_deltas(wild, b, family.WEIGHTS), coder.decode_single(wild, b), rtol=1e-4, atol=1e-3)


def test_proposals_are_those_of_torchvision():
    torch.manual_seed(0)
    ours, seen = rpn.RPNHead(8, STRIDES), maps()
    for layer in (ours.objectness, ours.deltas):
        torch.nn.init.normal_(layer.weight)
    reference = their_rpn(ours, 8)
    raw = ours(seen)
    logits, _ = reference.head(seen)
    assert torch.allclose(raw.logits[..., 0], torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in logits], 1))
    places = raw.priors.boxes
    with torch.no_grad():
        decoded = reference.box_coder.decode_single(raw.regression.flatten(0, 1), places.repeat(2, 1)).view(2, -1, 4)
        counts = [x.shape[2] * x.shape[3] * 3 for x in seen]
        expected, _ = reference.filter_proposals(decoded, raw.logits, [(96, 128)] * 2, counts)
    got = ours.propose(raw, [(x.shape[2], x.shape[3]) for x in seen], (96, 128))
    for mine, box in zip(got, expected, strict=True):
        assert mine.shape == box.shape and len(mine) > 20
        assert torch.allclose(mine, box, atol=1e-3)


def test_anchors_are_matched_as_torchvision_does():
    ours = rpn.RPNHead(8, STRIDES)
    reference, raw = their_rpn(ours, 8), ours(maps())
    box = boxes_in(5, least=20)
    known = family.pad_targets([(box, torch.zeros(5), torch.zeros(5))] * 2)
    index = faster.MATCH(raw.logits, raw.regression, raw.priors, known)
    labels, matched = reference.assign_targets_to_anchors([raw.priors.boxes] * 2, [{"boxes": box}] * 2)
    mine = index.index[0]
    assert (mine >= 0).sum() >= 5
    assert torch.equal(torch.where(mine >= 0, 1, mine + 1), labels[0].long())  # ours -1 none, -2 ignored; theirs 0, -1
    assert torch.equal(box[mine[mine >= 0]], matched[0][mine >= 0])


def test_proposal_loss_is_that_of_torchvision(monkeypatch):
    torch.manual_seed(0)
    ours = rpn.RPNHead(8, STRIDES)
    reference, raw = their_rpn(ours, 8), ours(maps())
    targets = [make_target(*[(*row.tolist(), 0) for row in boxes_in(4, least=20, seed=i)]) for i in range(2)]
    labels, matched = reference.assign_targets_to_anchors([raw.priors.boxes] * 2, [{"boxes": t.boxes} for t in targets])
    codes = reference.box_coder.encode(matched, [raw.priors.boxes] * 2)
    drawn = sampled(torch.stack([torch.where(x > 0, 0, -1 - (x < 0).long()) for x in labels]), 256, 0.5)
    monkeypatch.setattr(faster, "sampled", lambda *_: drawn)
    monkeypatch.setattr(
        reference,
        "fg_bg_sampler",
        lambda _: (  # the same draw for both
            [(m & (x > 0)).byte() for m, x in zip(drawn, labels, strict=True)],
            [(m & (x == 0)).byte() for m, x in zip(drawn, labels, strict=True)],
        ),
    )
    flat = raw.logits.flatten(0, 1), raw.regression.flatten(0, 1)
    expected = reference.compute_loss(*flat, labels, codes)
    terms = small()._proposal_loss(raw, targets)
    assert drawn.sum(1).tolist() == [256, 256]
    for name, value in zip(("objectness", "regression"), expected, strict=True):
        assert torch.allclose(terms[name].total / terms[name].count, value, rtol=1e-4)


def test_regions_are_looked_at_in_the_levels_of_torchvision_and_give_its_features():
    seen = {str(i): x for i, x in enumerate(maps())}
    box = torch.cat((boxes_in(40, 90, 9), torch.tensor([[0.0, 0, 96, 96], [-200.0, -200, 300, 300]])))
    reference = MultiScaleRoIAlign(list(seen), roi.SIDE, roi.SAMPLES)
    level = roi.levels(box, STRIDES)
    shift = torch.tensor(STRIDES)[level][:, None] / 2  # ours asks between the middles of cells, theirs did not
    expected = reference(seen, [box - shift] * 2, [(96, 128)] * 2).view(2, len(box), -1)
    wide = ((box[:, 2:] - box[:, :2]) > torch.tensor(STRIDES)[level][:, None]).all(1)  # theirs widens narrower ones
    got = roi.pooled(list(seen.values()), STRIDES, box.expand(2, -1, -1)).flatten(2)
    assert torch.equal(level, reference.map_levels([box])) and wide.sum() > 20
    assert torch.allclose(got[:, wide], expected[:, wide], atol=1e-4)


def test_levels_follow_the_size():
    sides = torch.tensor([1.0, 55, 111, 112, 223, 224, 447, 448, 900])
    box = torch.stack((sides * 0, sides * 0, sides, sides), 1)
    assert roi.levels(box, [8, 16, 32]).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert roi.levels(box, [4, 8, 16, 32, 64]).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4]
    assert roi.levels(box, [8, 32]).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert roi.levels(torch.zeros(2, 4), [8, 16]).tolist() == [0, 0]


def test_pooling_by_the_greatest_cell_is_that_of_torchvision():
    x, box = maps(count=1)[1], boxes_in(9)
    got = roi.pooled([x], [16], box[None], "max")
    assert torch.equal(got[0], roi_pool(x, [box], roi.SIDE, 1 / 16))


def theirs_of(logits: torch.Tensor) -> torch.Tensor:
    """Our order of classes, with none last, as torchvision's, with it first."""
    return torch.cat((logits[..., -1:], logits[..., :-1]), -1)


def said(count: int = 60, seed: int = 0) -> family.RegionOutput:
    generator = torch.Generator().manual_seed(seed)
    logits, deltas = (torch.randn(2, count, *s, generator=generator) for s in ((4,), (3, 4)))
    valid = torch.ones(2, count, dtype=torch.bool)
    valid[1, count // 2 :] = False
    box = torch.stack([boxes_in(count, seed=seed), boxes_in(count, seed=seed + 1)])
    return family.RegionOutput(box, valid, logits * 3, deltas, torch.tensor([96.0, 80.0, 96.0, 80.0]))


def test_decoding_is_that_of_torchvision():
    raw = said()
    heads = RoIHeads(None, None, None, 0.5, 0.5, 128, 0.25, family.WEIGHTS, 0.05, 0.5, 30)
    codes = torch.cat((torch.zeros(2, 60, 1, 4), raw.deltas), 2).flatten(2)
    parts = [
        theirs_of(raw.logits)[raw.valid],
        codes[raw.valid],
        [b[v] for b, v in zip(raw.boxes, raw.valid, strict=True)],
    ]
    expected = heads.postprocess_detections(*parts, [(80, 96)] * 2)
    found = small().postprocess(raw, Postprocess(score=0.05, iou=0.5, limit=30))
    for ours, box, score, label in zip(found, *expected, strict=True):
        assert len(ours) == len(box) > 10
        assert torch.allclose(ours.boxes, box, atol=1e-3) and torch.allclose(ours.scores, score, atol=1e-5)
        assert torch.equal(ours.labels, label - 1)


def test_region_loss_is_that_of_torchvision(monkeypatch):
    raw = said()
    heads = RoIHeads(None, None, None, 0.5, 0.5, 128, 0.25, family.WEIGHTS, 0.05, 0.5, 30)
    near = [b[:24:4] + torch.tensor([1.0, -1.0, 2.0, 0.0]) for b in raw.boxes]
    targets = [make_target(*[(*row.tolist(), i % 3) for i, row in enumerate(b)]) for b in near]
    places = [b[v] for b, v in zip(raw.boxes, raw.valid, strict=True)]
    matched, labels = heads.assign_targets_to_proposals(
        places, [t.boxes for t in targets], [t.labels + 1 for t in targets]
    )
    ours = [family.matched_objects(b, t) for b, t in zip(places, targets, strict=True)]
    for index, match, label in zip(ours, matched, labels, strict=True):
        assert (index >= 0).sum() > 3
        assert torch.equal(index >= 0, label > 0) and torch.equal(index[index >= 0], match[label > 0])
    codes = heads.box_coder.encode([t.boxes[m] for t, m in zip(targets, matched, strict=True)], places)
    said_codes = torch.cat((torch.zeros(2, 60, 1, 4), raw.deltas), 2).flatten(2)[raw.valid]
    expected = fastrcnn_loss(theirs_of(raw.logits)[raw.valid], said_codes, labels, codes)
    monkeypatch.setattr(family, "REGIONS", int(raw.valid.sum()) / 2)  # they divide by how many there are
    terms = family.RegionModel.loss(small(), raw, targets)
    for name, value in zip(("classes", "box"), expected, strict=True):
        assert torch.allclose(terms[name].total / terms[name].count, value, rtol=1e-4)
