"""Extractors: the same images give the same features, what was learned is kept, and none is taken silently."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import random_images
from twoplayer.core.cache import cache_folder
from twoplayer.core.errors import UserError
from twoplayer.core.extractor import Images
from twoplayer.core.rng import Stream
from twoplayer.data.form import Form
from twoplayer.data.images import ImageData
from twoplayer.data.source import open_source
from twoplayer.evaluation.extraction import choose, fitted, observe_real, remembered, weights_hash
from twoplayer.extractors.cnn import ClassifierCnn, RandomCnn, accuracy_of
from twoplayer.extractors.inception import Inception, verified_weights, weights_place

QUICK = ClassifierCnn(width=8, num_features=16, thousand_images=6.0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TWOPLAYER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def digits() -> tuple[ImageData, ImageData]:
    source = open_source("digits")
    return source.load("train", Form()), source.load("test", Form())


def test_auto_is_a_classifier_where_there_are_labels_and_never_inception(digits: tuple[ImageData, ImageData]) -> None:
    train, _ = digits
    assert choose("auto", train) == ClassifierCnn(least_accuracy=0.97), "digits ask for 97 %"
    assert isinstance(choose("auto", replace(train, labels=None, class_names=())), RandomCnn)
    assert isinstance(choose("inception", train), Inception)
    with pytest.raises(UserError, match="did you mean 'inception'"):
        choose("inceptoin", train)


@pytest.mark.slow
def test_the_classifier_reaches_its_mark_on_digits(digits: tuple[ImageData, ImageData]) -> None:
    train, test = digits
    made = fitted(choose("auto", train), train, test)
    assert made.name == "digits-cnn"
    assert made.figure("fid") == "fid_digits-cnn"
    assert made.facts["held_out_accuracy"] >= 0.97
    assert made.facts["held_out_accuracy"] == accuracy_of(made.network, Images(test.images, test.labels, 10))


def test_a_classifier_that_learned_too_little_refuses(digits: tuple[ImageData, ImageData]) -> None:
    strict = QUICK.model_copy(update={"thousand_images": 0.1, "least_accuracy": 0.97})
    with pytest.raises(UserError, match=r"less than the 97.0% asked for; use the extractor random-cnn"):
        fitted(strict, *digits)
    assert not list(cache_folder().rglob("*.safetensors")), "a refused extractor is not kept"
    with pytest.raises(UserError, match="at least two classes"):
        fitted(QUICK, *(replace(data, labels=None, class_names=()) for data in digits))


def test_what_was_learned_is_kept_by_content(
    digits: tuple[ImageData, ImageData], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fitted(QUICK, *digits)
    kept = next(cache_folder().rglob("weights.safetensors"))

    def fit(*_: object) -> dict[str, object]:
        raise AssertionError("it is fitted again")

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierCnn, "fit", fit)
        again = fitted(QUICK, *digits)
        assert again.facts == first.facts
        assert weights_hash(again.network) == first.facts["weights_sha256"]
        with pytest.raises(AssertionError, match="again"):
            fitted(QUICK, replace(digits[0], images=digits[0].images.flip(-1)), digits[1])
        with pytest.raises(AssertionError, match="again"):
            fitted(QUICK.model_copy(update={"seed": 1}), *digits)
    kept.write_bytes(kept.read_bytes()[:100])
    assert fitted(QUICK, *digits).facts == first.facts, "a damaged file is made anew, and comes out the same"


def test_fitting_leaves_the_random_numbers_of_others_alone(digits: tuple[ImageData, ImageData]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(QUICK, *digits)
    assert torch.equal(torch.rand(3), expected)


def test_features_do_not_depend_on_the_company_of_an_image(digits: tuple[ImageData, ImageData]) -> None:
    network = fitted(QUICK, *digits).network
    images = digits[1].images
    whole, part = network.observe(images), network.observe(images[40:50])
    assert torch.allclose(whole.see("features")[40:50], part.see("features"), atol=1e-5)
    assert torch.allclose(whole.see("probabilities")[40:50], part.see("probabilities"), atol=1e-6)
    assert whole.see("probabilities").sum(1).sub(1.0).abs().max() < 1e-12


def test_features_of_real_images_are_kept(digits: tuple[ImageData, ImageData], monkeypatch: pytest.MonkeyPatch) -> None:
    made = fitted(QUICK, *digits)
    first = observe_real(made, digits[1])
    monkeypatch.setattr(type(made.network), "observe", lambda *_: pytest.fail("it looks again"))
    again = observe_real(made, digits[1])
    for view in ("pixels", "features", "probabilities", "labels"):
        assert torch.equal(again.see(view), first.see(view))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 5, 70)])
def test_a_random_cnn_is_the_same_everywhere_and_needs_no_labels(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    one = RandomCnn().build(shape, 10)
    torch.manual_seed(2)
    other = RandomCnn().build(shape, 0)
    assert weights_hash(one) == weights_hash(other) != weights_hash(RandomCnn(seed=1).build(shape, 0))
    seen = one.observe(random_images(5, shape))
    assert seen.see("features").shape == (5, one.num_features)
    assert not seen.has("probabilities")
    images = ImageData(random_images(8, shape), "mine.npz")
    assert fitted(RandomCnn(), images, images).figure("fid") == "fid_random-cnn"


def test_inception_weights_are_hashed_before_anything_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"right")
    right = hashlib.sha256(b"right").hexdigest()
    assert verified_weights(file, right) == file
    file.write_bytes(b"wrong")
    with pytest.raises(UserError, match="not the Inception weights"):
        verified_weights(file, right)


def test_without_a_network_the_file_its_place_and_the_alternative_are_named(tmp_path: Path) -> None:
    def offline(address: str, file: str) -> None:
        raise OSError("no route")

    place = tmp_path / "deep" / "weights.pth"
    with pytest.raises(UserError, match=r"needs .*weights\.pth.* from https://.* there, or use the extractor auto"):
        verified_weights(place, download=offline)

    def online(address: str, file: str) -> None:
        Path(file).write_bytes(address.encode())

    with pytest.raises(UserError, match="SHA-256"):
        verified_weights(place, download=online)


class _FakeInception(nn.Module):
    """What torch-fidelity's class looks like from outside."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]
        assert Path(feature_extractor_weights_path).exists()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 8, 8)
        tone = images.float().mean((1, 2, 3))[:, None]
        return tone.expand(-1, 2048), tone * torch.linspace(0, 1, 1008)


def test_the_adapter_of_torch_fidelity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"weights")
    monkeypatch.setattr("twoplayer.extractors.inception.verified_weights", lambda: file)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(UserError, match=r"pip install 'twoplayer\[inception\]'"):
        Inception().build((1, 8, 8), 0)
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = _FakeInception  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data = ImageData(random_images(120), "mine.npz")
    made = fitted(Inception(), data, data)
    assert made.figure("fid") == "fid"
    seen = made.network.observe(data.images)
    assert seen.see("features").shape == (120, 2048)
    assert seen.see("probabilities").shape == (120, 1008)


def test_where_the_weights_are_looked_for() -> None:
    assert weights_place().name == "weights-inception-2015-12-05-6726825d.pth"


def test_shown_images_move_a_little_each_by_itself() -> None:
    from twoplayer.extractors.cnn import _moved

    images = torch.zeros(6, 1, 9, 9)
    images[:, :, 4, 4] = 1.0
    moved = _moved(images, 0.1, 0.1, Stream(0))
    assert not torch.allclose(moved[0], moved[1])
    assert torch.allclose(_moved(images, 0.0, 0.0, Stream(0)), images, atol=1e-5)
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    for image in moved[:, 0]:
        center = torch.stack([(image * axis).sum() / image.sum() for axis in (rows, columns)])
        assert (center - 4.0).abs().max() < 0.1 * 9 + 0.5


def test_what_is_remembered_is_made_once_whatever_it_is() -> None:
    made = iter(({"kl": math.inf, "modes": 3.0}, {"kl": 0.0, "modes": 0.0}))
    assert remembered(["once", 1], lambda: next(made)) == {"kl": math.inf, "modes": 3.0}
    assert remembered(["once", 1], lambda: next(made)) == {"kl": math.inf, "modes": 3.0}
    assert remembered(["once", 2], lambda: next(made)) == {"kl": 0.0, "modes": 0.0}
