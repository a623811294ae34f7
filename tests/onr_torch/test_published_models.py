"""Published models: what they compute is what their libraries compute from a photograph."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torchvision import models

import onr
from onr.cli.main import main
from onr.errors import OnrError
from onr.registry import located
from onr.training.config import TrainConfig
from onr.training.evaluation import EvaluationConfig, evaluate
from onr.training.factories import run_record
from onr.training.subject import Subject, open_subject
from onr_torch.models.hub import Place
from onr_torch.models.imagenet import with_wordnet_ids
from onr_torch.models.torchvision_models import torchvision_model

COMMIT = "a" * 40
CLASSES = ["Collie", "crane", "tabby, tabby cat", "wolf"]
PHOTOGRAPHS = {"collie": (40, 70), "tabby_cat": (64, 48), "wolf": (50, 50)}
"""Names of folders, and how high and wide their photographs are."""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with a photograph of each class."""
    for index, (name, size) in enumerate(PHOTOGRAPHS.items()):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        noise = np.random.default_rng(index).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "photographs" / name / "0.png")
    return tmp_path / "photographs"


def opened(model: str, place: Path | str, **more: Any) -> Subject:
    return open_subject(model, model_options={}, dataset=f"folder:{place}", **more)


def photograph(place: Path, subject: Subject, label: int) -> Image.Image:
    """The photograph whose label this is."""
    known = [name for name in PHOTOGRAPHS if name.replace("_", " ") in _names(subject, label)]
    with Image.open(place / known[0] / "0.png") as image:
        return image.convert("RGB")


def _names(subject: Subject, label: int) -> list[str]:
    return subject.dataset.classes[label].casefold().split(", ")


def check(subject: Subject, place: Path, expected: Any, tolerance: float) -> None:
    """Compare the logits with those of the library for each photograph."""
    x, y = subject.batch(len(PHOTOGRAPHS))
    for image, label in zip(x, y.tolist(), strict=True):
        theirs = expected(photograph(place, subject, label))
        ours = subject.network(image[None])
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * scale)


class Hub:
    """A server that answers as the Hugging Face Hub does: ``folders`` by repository."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.asked.append(self.path)
                headers, body = hub.answer(self.path.partition("?")[0])
                self.send_response(404 if body is None else 200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, path: str) -> tuple[dict[str, str], bytes | None]:
        for name, folder in self.folders.items():
            if path.startswith(f"/api/models/{name}/"):
                files = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0"}
                    for file in folder.iterdir()
                ]
                told: Any = (
                    files if "/tree/" in path else {"id": name, "sha": COMMIT, "siblings": []}
                )
                return {"Content-Type": "application/json"}, json.dumps(told).encode()
            file = folder / path.rpartition("/")[2]
            if path.startswith(f"/{name}/") and file.exists():
                body = file.read_bytes()
                tag = hashlib.sha256(body).hexdigest()
                return {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body
        return {}, None


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    made = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    template = made.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


# The Hub


def test_files_are_fetched_once_and_only_where_that_is_allowed(hub: Hub, tmp_path: Path) -> None:
    hub.folders["me/mine"] = tmp_path / "mine"
    hub.folders["me/mine"].mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "modeling_mine.py"):
        (tmp_path / "mine" / name).write_text("{}")

    def place(spec: str, *, download: bool = False) -> Place:
        return Place(spec, what="the model", download=download)

    with pytest.raises(OnrError, match=r"the model is not in the cache.*--download"):
        place("me/mine@main").folder()
    assert hub.asked == []
    found = place("me/mine@main", download=True).source()
    assert sorted(file.name for file in place("me/mine").folder().iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    count = len(hub.asked)
    empty = hashlib.sha256(b"{}").hexdigest()
    for spec in ("me/mine", "me/mine@main", f"me/mine@{COMMIT}"):
        assert place(spec).source().record() == found.record()
    assert len(hub.asked) == count
    assert found.record() == {
        "repository": "me/mine",
        "commit": COMMIT,
        "files": {"model.safetensors": empty, "config.json": empty},
    }
    with pytest.raises(OnrError, match=r"could not be downloaded.*404"):
        place("no/where", download=True).folder()
    with pytest.raises(OnrError, match="Repo id must"):
        place("no where", download=True).folder()


def test_folders_without_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    place = Place(str(tmp_path), what="the model", download=True)
    with pytest.raises(OnrError, match=r"no model\.safetensors: other formats may run code"):
        place.source()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(OnrError, match=r"model-00001-of-00002\.safetensors is missing"):
        place.source()
    with pytest.raises(OnrError, match="there is no folder"):
        Place("./nowhere", what="the model", download=False).folder()


def test_a_folder_is_good_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for model in ("hf:./mine", "onr_torch:timm:./mine"):
        assert located(model) == model.replace("./mine", str(tmp_path / "mine"))
    assert located("hf:me/mine@main") == "hf:me/mine@main"


def test_normalisation_needs_a_training_part(photographs: Path, tmp_path: Path) -> None:
    """A model of torchvision with weights of one's own: by which mean were they trained?"""
    weights = tmp_path / "own.pt"
    torch.save(models.squeezenet1_1(num_classes=3).state_dict(), weights)
    told = (
        r"torchvision:squeezenet1_1 normalises images by the mean and deviation of the training "
        r"part, and folder:\S+photographs has no training part, .*/train/CLASS/IMAGE; "
        r"torchvision:NAME@DEFAULT --weights FILE normalises as published weights do"
    )
    with pytest.raises(OnrError, match=told):
        opened("torchvision:squeezenet1_1", f"{photographs}@32", weights=str(weights))
    subject = opened("torchvision:squeezenet1_1@DEFAULT", photographs, weights=str(weights))
    assert subject.dataset.classes == ("collie", "tabby_cat", "wolf")
    assert not subject.drawn


# timm


def test_a_model_of_timm(hub: Hub, photographs: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from timm.data import create_transform, resolve_data_config
    from timm.models import save_for_hf

    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 8, "num_heads": 2}
    module = timm.create_model("vit_tiny_patch16_224", num_classes=4, **sizes).eval()
    told = {"input_size": (3, 32, 32), "crop_pct": 0.8, "mean": (0.4, 0.5, 0.6), "num_classes": 4}
    config = dict(module.pretrained_cfg) | told
    saved = {"pretrained_cfg": config, "label_names": CLASSES}
    save_for_hf(
        module, tmp_path / "saved", model_config=saved, model_args=sizes, safe_serialization=True
    )
    transform = create_transform(**resolve_data_config(pretrained_cfg=config))

    subject = opened(f"timm:{tmp_path / 'saved'}", photographs)
    with torch.no_grad():
        check(subject, photographs, lambda image: module(transform(image)[None]), 1e-6)
    assert subject.dataset.classes == tuple(CLASSES)
    assert not subject.drawn
    assert subject.dataset.preparation == (
        "shorter side resized to 40 (bicubic), centre crop of 32 x 32"
    )
    x, _ = subject.batch(2)
    assert onr.operator_norm(subject.network, x, p=2, q=2).value.shape == (2,)
    told = r"takes images of 3 x 32 x 32, the data set has 3 x 48 x 48: folder:PATH, without @"
    with pytest.raises(OnrError, match=told):
        opened(f"timm:{tmp_path / 'saved'}", f"{photographs}@48")

    # By name, from a hub: the weights are another's, and their 1,000 classes ImageNet's.
    module = timm.create_model("test_convnext").eval()
    name = "test_convnext.r160_in1k"
    saved = {"pretrained_cfg": module.pretrained_cfg}
    save_for_hf(module, tmp_path / "named", model_config=saved, safe_serialization=True)
    hub.folders[f"timm/{name}"] = tmp_path / "named"
    (photographs / "wolf").rename(photographs / "n02123045")  # tabby
    (photographs / "tabby_cat").rename(photographs / "timber wolf")
    with pytest.raises(OnrError, match="not in the cache of the Hub: give --download"):
        opened(f"timm:{name}", photographs)
    subject = opened(f"timm:{name}", photographs, download=True)
    assert sorted(subject.dataset.test.labels.tolist()) == [231, 269, 281]
    for label, word in ((231, "collie"), (281, "tabby"), (269, "timber wolf")):
        assert word in _names(subject, label)
    assert subject.source is not None
    assert subject.source["commit"] == COMMIT
    x, _ = subject.batch(1)
    mean, std = (
        torch.tensor(module.pretrained_cfg[key]).reshape(3, 1, 1) for key in ("mean", "std")
    )
    with torch.no_grad():
        torch.testing.assert_close(subject.network(x), module((x - mean) / std))
    for wrong, message in (
        ("resnet1", "timm has no pretrained model 'resnet1'"),
        ("resnet18.mine", "Invalid pretrained tag"),
        (str(photographs), "config.json cannot be read"),
    ):
        with pytest.raises(OnrError, match=message):
            opened(f"timm:{wrong}", photographs)

    # Weights of one's own: the data set's classes, in its order, and nothing is downloaded.
    own = timm.create_model("test_convnext", num_classes=3)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    hub.folders.clear()
    subject = opened(f"timm:{name}", photographs, weights=str(tmp_path / "own.pt"))
    assert subject.dataset.classes == ("collie", "n02123045", "timber wolf")
    assert subject.source is not None
    assert "files" not in subject.source


# transformers


def test_a_model_of_transformers(photographs: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")

    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8],
        depths=[1, 1],
        id2label=dict(enumerate(CLASSES)),
        label2id={name: index for index, name in enumerate(CLASSES)},
    )
    module = transformers.ResNetForImageClassification(config).eval()
    processors = {
        "squeezed": transformers.ViTImageProcessor(size={"height": 32, "width": 24}),
        "cropped": transformers.CLIPImageProcessor(
            size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, resample=3
        ),
        "one mean for all": transformers.ViTImageProcessor(
            size={"height": 32, "width": 32}, image_mean=0.4, image_std=0.3
        ),
        "not normalised": transformers.ViTImageProcessor(
            size={"height": 32, "width": 32}, do_normalize=False, rescale_factor=1 / 127
        ),
        "convnext": transformers.ConvNextImageProcessor(size={"shortest_edge": 28}, crop_pct=0.7),
    }
    folder = tmp_path / "saved"
    module.save_pretrained(folder)
    for name, processor in processors.items():
        processor.save_pretrained(folder)
        subject = opened(f"hf:{folder}", photographs)

        def logits(image: Image.Image, processor: Any = processor) -> torch.Tensor:
            return module(**processor(image, return_tensors="pt")).logits

        with torch.no_grad():
            # Theirs rounds to bytes after each step, at some places to another one.
            check(subject, photographs, logits, 0.02 if name != "convnext" else 0.1)
        assert subject.dataset.classes == tuple(CLASSES)
        assert subject.source is not None
        assert set(subject.source["files"]) == {
            "model.safetensors",
            "config.json",
            "preprocessor_config.json",
        }
    for processor, message in (
        (transformers.MobileViTImageProcessor(), "do_flip_channel_order, which is not understood"),
        (transformers.ViTImageProcessor(do_resize=False), "do_resize is false"),
        # These two do more than they say: one normalises twice, the other enlarges.
        (transformers.EfficientNetImageProcessor(do_center_crop=False), "does more than"),
        (transformers.LevitImageProcessor(), "does more than"),
    ):
        processor.save_pretrained(folder)
        with pytest.raises(OnrError, match=message):
            opened(f"hf:{folder}", photographs)
    config.id2label = {1: "ant", 2: "bee", 3: "cow"}
    config.save_pretrained(folder)
    processors["squeezed"].save_pretrained(folder)
    with pytest.raises(OnrError, match=r"id2label names the outputs \[1, 2, 3\]: expected 0 to 2"):
        opened(f"hf:{folder}", photographs)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"auto_map": {"AutoImageProcessor": "code.Code"}, "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(OnrError, match="code of its own"):
        opened(f"hf:{folder}", photographs)
    assert not (tmp_path / "ran").exists()
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(OnrError, match=r"no preprocessor_config\.json"):
        opened(f"hf:{folder}", photographs)


# torchvision


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, Path]:
    """Weights of a small network in the place of those that torchvision publishes."""
    torch.manual_seed(0)
    module = models.squeezenet1_1().eval()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    file = tmp_path / "weights.pth"
    torch.save(module.state_dict(), file)
    name = f"mine-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file = file.rename(tmp_path / name)
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", file.as_uri())
    return module, file


MODEL = "torchvision:squeezenet1_1@DEFAULT"


def test_a_model_of_torchvision(
    published: tuple[nn.Module, Path], photographs: Path, tmp_path: Path
) -> None:
    module, file = published
    (photographs / "tabby_cat").rename(photographs / "n02123045")  # tabby
    (photographs / "wolf").rename(photographs / "timber wolf")
    with pytest.raises(OnrError, match=r"no file .*mine-.*\.pth: give --download"):
        opened(MODEL, photographs)
    file.rename(tmp_path / "away")
    with pytest.raises(OnrError, match="could not be downloaded"):
        opened(MODEL, photographs, download=True)
    (tmp_path / "away").rename(file)
    subject = opened(MODEL, photographs, download=True)
    file.unlink()
    subject = opened(MODEL, photographs)
    assert sorted(subject.dataset.test.labels.tolist()) == [231, 269, 281]
    transform = models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    x, y = subject.batch(3)
    names = {231: "collie", 269: "timber wolf", 281: "n02123045"}
    with torch.no_grad():
        for image, label in zip(x, y.tolist(), strict=True):
            with Image.open(photographs / names[label] / "0.png") as photo:
                theirs = module(transform(photo)[None])
            torch.testing.assert_close(subject.network(image[None]), theirs, rtol=1e-4, atol=1e-5)
    config = TrainConfig(model=MODEL, dataset=f"folder:{photographs}")
    assert subject.source is not None
    assert run_record(config, Standard())["model_source"]["files"] == subject.source["files"]
    kept = tmp_path / "hub" / "checkpoints" / file.name
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(OnrError, match="damaged"):
        opened(MODEL, photographs)


class Standard:
    """Settings are all that a record needs of a method."""

    def __init__(self) -> None:
        self.settings: dict[str, str | float] = {}


def test_published_weights_are_never_unpickled(
    published: tuple[nn.Module, Path], photographs: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(Trap(), tmp_path / "trap")
    name = f"trap-{hashlib.sha256((tmp_path / 'trap').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "trap").rename(tmp_path / "hub" / "checkpoints" / name)
    monkeypatch.setattr(models.SqueezeNet1_1_Weights.DEFAULT.value, "url", f"https://x/{name}")
    (photographs / "tabby_cat").rename(photographs / "#281")
    (photographs / "wolf").rename(photographs / "#269")
    with pytest.raises(OnrError, match="cannot be built: UnpicklingError"):
        opened(MODEL, photographs)
    assert not (tmp_path / "ran").exists()


def test_the_command_says_what_does_not_fit(
    published: tuple[nn.Module, Path], photographs: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8, 3)), labels=np.arange(3))
    named = np.array(["tench", "goldfish", "hen"])
    np.savez(tmp_path / "b.npz", images=np.zeros((3, 8, 8, 3)), labels=np.arange(3), classes=named)
    for arguments, message in (
        ((MODEL, f"folder:{photographs}"), "the class 'tabby_cat', which is no output of"),
        (
            (MODEL, f"npz:{tmp_path}/a.npz"),
            "has 3 classes and torchvision:squeezenet1_1@DEFAULT 1000",
        ),
        ((MODEL, f"npz:{tmp_path}/b.npz"), "takes images of 3 x 224 x 224, the data set has 3 x 8"),
        (("torchvision:resnet18@V1", "digits"), "expected IMAGENET1K_V1, DEFAULT"),
    ):
        command = ["measure", "norms", arguments[0], "--dataset", arguments[1], "--images", "1"]
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 2
        assert message in found.output


@pytest.mark.parametrize("name", ["googlenet", "densenet121"])
def test_published_weights_are_read_by_torchvisions_names(name: str, tmp_path: Path) -> None:
    builder = models.get_model_builder(name)
    extra = {"init_weights": False} if name == "googlenet" else {}
    state = builder(**extra).state_dict()
    if name == "densenet121":  # as the published file has them
        state = {
            key.replace("norm1", "norm.1").replace("conv2", "conv.2"): value
            for key, value in state.items()
        }
    torch.save(state, tmp_path / "weights.pth")
    opened = torchvision_model(f"{name}@DEFAULT").opened(download=False)  # type: ignore[attr-defined]
    from onr_torch.models.published import Source

    made = opened.make(1000, Source((tmp_path / "weights.pth",), {}))
    assert all(not key.startswith("aux") for key in made.state_dict())
    key = (
        "conv1.conv.weight"
        if name == "googlenet"
        else "features.denseblock1.denselayer1.norm1.weight"
    )
    theirs = state[key.replace("norm1.weight", "norm.1.weight")]
    assert torch.equal(made.state_dict()[key], theirs)


# Names of classes


def test_the_names_of_imagenet_are_known_by_their_order() -> None:
    names = list(models.ResNet18_Weights.DEFAULT.meta["categories"])
    found = with_wordnet_ids(names)
    assert found[0] == "n01440764, tench"
    assert found[999] == "n15075141, toilet tissue"
    assert with_wordnet_ids(found[:999]) == found[:999]
    assert with_wordnet_ids(names[::-1]) == tuple(names[::-1])


def test_a_model_of_ones_own_names_its_classes(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from torch import nn\nnet = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))\n"
        f"net.class_names = {CLASSES[::-1]}\n"
    )
    (tmp_path / "own_named.py").write_text(code)
    model = f"{tmp_path}/own_named.py:net"
    subject = open_subject(model, model_options={}, dataset=f"folder:{photographs}@2")
    assert sorted(subject.dataset.test.labels.tolist()) == [0, 1, 3]
    assert subject.source is None
    config = EvaluationConfig(eps=(0.1,), steps=1, spectrum=1)
    found = evaluate(subject, config, out=tmp_path / "evaluated")
    assert found.record["model_source"] is None
    assert found.record["preparation"] == (
        "shorter side resized to 2 (bilinear), centre crop of 2 x 2"
    )
