"""Embedders: losses, batches of people, the network, its distance."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.datasets.identities import require_identities
from detect.data.rng import batches
from detect.data.sampling import grouped
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.embedder import EmbedderConfig, EmbedderLossConfig
from detect.models.hooks import LayerOutputs
from detect.models.losses.embeddings import MINING, contrastive, same_person, siamese, squared_distances, triplet
from detect.models.weights import load_weights, save_weights
from detect.types import Embedding, Postprocess, Target
from tests.detect.test_crops import folder_of
from tests.reference import embeddings as naive

CARD = ModelMetadata(["a", "b", "c"], [1, 2, 3], size=32)
KINDS = ("triplet", "contrastive", "siamese")


def vectors(n: int, d: int = 4, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def embedder(**changes):
    torch.manual_seed(0)
    loss = EmbedderLossConfig(**changes.pop("loss", {}))
    given = {"name": "e", "backbone": "lenet5", "dimensions": 6, "loss": loss}
    return build(EmbedderConfig(**given | changes), CARD)


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def portraits() -> torch.Tensor:
    """Two people by turns, four images each: bright on the left or on the right, and noise."""
    x = images(8) // 4 * 3
    x[::2, :, :, :16] += 20
    x[1::2, :, :, 16:] += 20
    return x


def target(person: int) -> Target:
    box, crowd = torch.tensor([[0.0, 0, 32, 32]]), torch.zeros(1, dtype=torch.bool)
    return Target(box, torch.tensor([person]), crowd, person, (32, 32))


def losses(kind: str, x: torch.Tensor, people: list[int]):
    labels = torch.tensor(people)
    if kind == "siamese":
        return siamese(x, labels, torch.linspace(-1, 2, x.shape[1], dtype=x.dtype), torch.tensor(0.5, dtype=x.dtype))
    return contrastive(x, labels, 0.8) if kind == "contrastive" else triplet(x, labels, 0.3, kind)


crowds = st.lists(st.integers(0, 3), min_size=0, max_size=9)


@given(people=crowds, seed=st.integers(0, 1000), mining=st.sampled_from(["semi_hard", "batch_hard"]))
@settings(deadline=None)
def test_triplets_are_those_of_the_plain_loops(people, seed, mining):
    x = vectors(len(people), seed=seed)
    term = triplet(x, torch.tensor(people, dtype=torch.int64), 0.3, mining)["triplet"]
    expected = naive.triplet_losses(x.tolist(), people, 0.3, mining)
    assert term.count == len(expected)
    assert term.total.item() == pytest.approx(sum(expected), abs=1e-9)


@given(people=crowds, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_pairs_are_those_of_the_plain_loops(people, seed):
    x, labels = vectors(len(people), seed=seed), torch.tensor(people, dtype=torch.int64)
    weight = torch.linspace(-1, 2, 4, dtype=x.dtype)
    found = contrastive(x, labels, 0.8), siamese(x, labels, weight, torch.tensor(0.5, dtype=x.dtype))
    expected = (
        naive.contrastive_losses(x.tolist(), people, 0.8),
        naive.siamese_losses(x.tolist(), people, weight.tolist(), 0.5),
    )
    for terms, (same, different) in zip(found, expected, strict=True):
        for name, each in (("same", same), ("different", different)):
            assert terms[name].count == len(each)
            assert terms[name].total.item() == pytest.approx(sum(each), abs=1e-9)


@given(people=crowds, seed=st.integers(0, 100))
@settings(deadline=None)
def test_random_triplets_have_every_positive_with_a_negative_of_its_anchor(people, seed):
    """A distance names its pair here: (anchor, other) is 10 * anchor + other."""
    torch.manual_seed(seed)
    n, labels = len(people), torch.tensor(people, dtype=torch.int64)
    names = 10.0 * torch.arange(n)[:, None] + torch.arange(n)
    near, far = (divmod_all(x) for x in MINING["random"](names, same_person(labels)))
    lonely = len(set(people)) < 2
    pairs = [(a, p) for a in range(n) for p in range(n) if a != p and people[a] == people[p] and not lonely]
    assert near == pairs and len(far) == len(near)
    assert all(a == b and people[a] != people[q] for (a, _), (b, q) in zip(near, far, strict=True))


def divmod_all(values: torch.Tensor) -> list[tuple[int, int]]:
    return [divmod(int(v), 10) for v in values]


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("people", [[], [0], [0, 0, 0], [0, 1, 2]])
def test_without_a_triplet_the_loss_is_zero_and_has_a_gradient(mining, people):
    x = vectors(len(people)).requires_grad_()
    term = triplet(x, torch.tensor(people, dtype=torch.int64), 0.2, mining)["triplet"]
    term.total.backward()
    assert term.total == 0 and term.count == 0 and torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("kind", ["semi_hard", "batch_hard", "contrastive", "siamese"])
def test_gradients_are_those_of_small_steps_and_finite_for_equal_vectors(kind):
    x, people = vectors(6).requires_grad_(), [0, 0, 1, 1, 2, 0]
    assert torch.autograd.gradcheck(lambda v: tuple(t.total for t in losses(kind, v, people).values()), x)
    equal = torch.ones(4, 3, dtype=torch.float64).div(3**0.5).requires_grad_()
    sum(t.total for t in losses(kind, equal, [0, 0, 1, 1]).values()).backward()
    assert equal.grad.isfinite().all()


def test_squared_distances_are_those_of_each_pair():
    x = vectors(5)
    expected = [[naive.squared(a, b) for b in x.tolist()] for a in x.tolist()]
    assert torch.allclose(squared_distances(x), torch.tensor(expected, dtype=x.dtype), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedder_learns_to_bring_people_together(kind):
    model = embedder(loss={"kind": kind, "margin": 0.5}).train()
    targets = [target(i % 2) for i in range(8)]
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    totals = []
    for _ in range(30):
        terms = model.loss(model(portraits()), targets)
        total = sum(t.total / t.count.clamp(min=1) for t in terms.values())
        optimizer.zero_grad()
        total.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0] * 0.75
    found = model.eval().postprocess(model(portraits()), Postprocess())
    apart = [[one.distance(one.values, other.values) for other in found] for one in found]
    same = [apart[i][j] for i in range(8) for j in range(i) if i % 2 == j % 2]
    assert max(same) < min(apart[i][j] for i in range(8) for j in range(i) if i % 2 != j % 2)


def test_the_distance_of_a_siamese_network_is_minus_its_logit():
    model = embedder(loss={"kind": "siamese"}).eval()
    with torch.no_grad():
        model.unit_weight.copy_(torch.linspace(-1, 1, 6))
        model.unit_bias.fill_(0.3)
    raw = model(images(2))
    one, other = model.postprocess(raw, Postprocess())
    term = model.loss(raw, [target(0), target(0)])["same"]
    assert float(np.log1p(np.exp(one.distance(one.values, other.values)))) == pytest.approx(term.total.item(), rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden": [16]}, {"in_channels": 1}, {"backbone": "csp_n"}, {"backbone": "csp_n", "output_stride": 8}],
)
def test_vectors_have_length_one_also_lean_and_from_a_file(changes, tmp_path):
    model = embedder(**changes).eval()
    raw = model(images(3)).vectors
    assert raw.shape == (3, 6) and torch.allclose(raw.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(model.fused()(images(3)).vectors, raw, atol=1e-4)
    found = model.postprocess(model(images(3)), Postprocess())
    assert [type(one) for one in found] == [Embedding] * 3
    model.calibrate({"thresholds": {"accuracy": 0.7}})
    save_weights(tmp_path / "w.safetensors", model)
    again = load_weights(tmp_path / "w.safetensors")
    assert again.metadata.thresholds == {"accuracy": 0.7} and torch.equal(again(images(3)).vectors, raw)
    assert model.postprocess(model(images(3)[:0]), Postprocess()) == []


@pytest.mark.parametrize("loss", ["triplet", "siamese"])
def test_a_image_and_its_mirror_image_have_one_vector_but_in_training(loss):
    changes = {"loss": {"kind": loss}}
    torch.manual_seed(0)
    model, plain = embedder(mirror=True, **changes), embedder(**changes)
    plain.load_state_dict(model.state_dict())
    for one in (model.train(), plain.train()):
        for _ in range(60):  # which gives the batch normalization its statistics
            one(images(4), [])
    some, turned = images(3), images(3).flip(-1)
    assert torch.allclose(model.train()(some, []).vectors, plain.train()(some, []).vectors, atol=1e-5)
    model.eval(), plain.eval()
    with (
        LayerOutputs(model, ["network.neck", "network.head"]) as seen,
        LayerOutputs(plain, ["network.neck", "network.head"]) as expected,
    ):
        model(some), plain(some)
    assert all(
        torch.allclose(seen.outputs[name], expected.outputs[name], rtol=1e-4, atol=1e-5) for name in expected.outputs
    )
    kept, alone = model.features(some), plain.features(some)
    assert len(kept) == 2
    for ours, reference in zip(kept, [*alone, *plain.features(turned)], strict=True):
        assert torch.allclose(ours, reference, rtol=1e-4, atol=1e-5)
    assert torch.allclose(
        model.train().forward_head(kept, []).vectors, plain.train().forward_head(alone, []).vectors, atol=1e-5
    )
    model.load_state_dict(plain.state_dict())
    model.eval(), plain.eval()
    got, straight, other = model(some).vectors, plain(some).vectors, plain(turned).vectors
    assert torch.allclose(got, model(turned).vectors, atol=1e-5) and not torch.allclose(straight, other, atol=0.01)
    both = straight + other
    assert torch.allclose(got, both / both.norm(dim=1, keepdim=True), atol=1e-5)
    assert model(some[:0]).vectors.shape == (0, 6)


def test_half_of_a_vector_knows_places():
    """Two early maps of the same cells in other places make other vectors, half of which is the same."""
    model = embedder(backbone="squeezenet1_1", output_stride=8, dimensions=7).eval()
    whole, early = model.features(images(2))
    assert early.shape == (2, 256, 4, 4)
    one, other = (model.forward_head([whole[:1], x]).vectors[0] for x in (early[:1], early[:1].flip(2)))
    assert one.shape == (7,) and torch.allclose(one[:4], other[:4], atol=1e-5)
    assert not torch.allclose(one[4:], other[4:], atol=0.01)
    assert one[:4].norm().item() == pytest.approx(one[4:].norm().item(), rel=1e-4)


def test_an_early_map_may_have_any_size():
    model = embedder(backbone="squeezenet1_1", output_stride=8, hidden=[5]).eval()
    large = images(2).repeat_interleave(3, 2).repeat_interleave(3, 3)
    assert model(large).vectors.shape == (2, 6)


def test_an_early_map_is_that_of_a_stage():
    with pytest.raises(UserError, match=r"output-stride 3: the stages of squeezenet1_1 have strides 2, 4, 8, 16$"):
        embedder(backbone="squeezenet1_1", output_stride=3)
    with pytest.raises(UserError, match=r"--model.dimensions 2 or more"):
        embedder(backbone="squeezenet1_1", output_stride=8, dimensions=1)


def test_a_network_with_auxiliary_classifiers_is_refused():
    with pytest.raises(UserError, match="auxiliary classifiers"):
        embedder(backbone="googlenet")


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8),
    each=st.integers(2, 4),
    count=st.integers(1, 5),
    data=st.data(),
)
@settings(deadline=None)
def test_every_batch_has_so_many_images_of_so_many_people(sizes, each, count, data):
    people = data.draw(st.integers(1, len(sizes)))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = grouped(labels, count, people, each, np.random.default_rng(0))
    assert len(found) == count * people * each
    for part in np.split(found, count):
        assert sorted(Counter(labels[part].tolist()).values()) == [each] * people
        assert np.array_equal(labels[part].reshape(each, people), np.tile(labels[part][:people], (each, 1)))
        for label in set(labels[part].tolist()):
            own = part[labels[part] == label]
            assert len(set(own.tolist())) == min(each, sizes[label])  # nothing twice unless there is too little
    turns = Counter(labels[found].tolist())
    assert max(turns.values()) - min(turns[i] for i in range(len(sizes))) <= each * 2


def test_processes_share_batches_by_turns_and_each_has_pairs():
    labels = np.repeat(np.arange(8), 5)
    found = grouped(labels, 4, 8, 3, np.random.default_rng(0))
    for rank in range(2):
        for part in batches(len(found), 24, rank, 2):  # of two batches of the order: a person may come in both
            assert set(Counter(labels[found[part]].tolist()).values()) <= {3, 6} and len(part) == 24


def test_people_are_held_out_whole_where_nothing_says_which(tmp_path, capsys):
    folder = folder_of(tmp_path, **dict.fromkeys("abcdefghij", 3))
    assert splits(folder, "classes") == ["train", "val"]
    train, val = (load_data(folder, split, image_level_labels="classes") for split in ("train", "val"))
    assert "a fifth of the classes becomes the split val" in capsys.readouterr().err
    assert len(np.unique(train.labels)) == 8 and len(np.unique(val.labels)) == 2
    assert not set(train.labels.tolist()) & set(val.labels.tolist())
    require_identities(train, val)
    assert capsys.readouterr().err == ""


def test_people_who_teach_nothing_are_told_of_or_refused(tmp_path, capsys):
    annotations = load_data(folder_of(tmp_path / "few", a=3, b=1, c=1), "train", image_level_labels="images")
    require_identities(annotations, annotations)
    said = capsys.readouterr().err
    assert (
        "2 identities with one image, which make no pair: b, c" in said
        and "3 identities of the validation set are also in" in said
    )
    alone = load_data(folder_of(tmp_path / "alone", a=1, b=1), "train", image_level_labels="images")
    with pytest.raises(UserError, match="two identities or more, one of them with two images"):
        require_identities(alone, annotations)
    with pytest.raises(UserError, match="two identities or more"):
        require_identities(annotations, load_data(folder_of(tmp_path / "one", a=9), "val", image_level_labels="images"))


def test_a_card_without_thresholds_is_read(tmp_path):
    model = embedder()
    save_weights(tmp_path / "w.safetensors", model)
    assert load_weights(tmp_path / "w.safetensors").metadata == dataclasses.replace(model.metadata, thresholds={})
    json.dumps(dataclasses.asdict(model.metadata))
