from __future__ import annotations

import errno
import hashlib
import socket
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segan_pl.errors import UsageError
from segan_pl.inference import trained
from segan_pl.inference.checkpoint_file import weights_of
from segan_pl.nets.albunet import AlbuNet
from segan_pl.nets.parts.resnet import ResNet34
from segan_pl.training.finetuning import pretrained
from segan_pl.training.finetuning.pretrained import (
    asking,
    find_weights,
    inflate,
    load_encoder,
    load_pretrained,
    read_weights,
)
from segan_pl.training.networks import averaged_copy

WIDTH = 4


def torchvision_like(channels: int = 3, *, seed: int = 11) -> dict[str, Tensor]:
    """Random weights under all of torchvision's names, classifier included."""
    torch.manual_seed(seed)
    weights = dict(ResNet34(channels, width=WIDTH).state_dict())
    weights = {
        key: value + torch.rand(value.shape) if value.is_floating_point() else value + 3
        for key, value in weights.items()
    }
    return {**weights, "fc.weight": torch.rand(1000, 8 * WIDTH), "fc.bias": torch.rand(1000)}


def network(modalities: int = 3, source: str | None = None, *, seed: int = 0) -> AlbuNet:
    torch.manual_seed(seed)
    return AlbuNet(modalities, 4, pretrained=source, width=WIDTH, filters=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "resnet34.pth"
    torch.save(torchvision_like(), path)
    return path


@pytest.fixture
def server(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What lies behind URL, named after its hash; torch's hub cache is an empty folder."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    served = file.rename(tmp_path / f"resnet34-{digest[:8]}.pth")
    monkeypatch.setattr(pretrained, "URL", served.as_uri())
    monkeypatch.setattr(pretrained, "WIDTH", WIDTH)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return served


def test_the_encoder_takes_the_files_weights_and_the_rest_keeps_its_seed(file: Path) -> None:
    model = network(source=str(file))
    state = torch.get_rng_state()
    assert load_pretrained(model) == ["encoder: weights of resnet34.pth"]
    assert torch.equal(torch.get_rng_state(), state)
    expected = {key: value for key, value in torchvision_like().items() if not key.startswith("fc.")}
    bare = network().state_dict()
    for key, value in model.state_dict().items():
        name = key.removeprefix("encoder.")
        assert torch.equal(value, expected[name] if key.startswith("encoder.") else bare[key]), key


def test_an_averaged_copy_starts_at_the_same_weights_and_is_told_of_once(file: Path) -> None:
    system = nn.ModuleDict({"segmentor": network(source=str(file))})
    system["averaged"] = averaged_copy(system["segmentor"], 0.99)
    assert len(load_pretrained(system)) == 1
    for first, second in zip(system["segmentor"].parameters(), system["averaged"].parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_checkpoint_is_read_without_the_file_that_its_run_began_with() -> None:
    spec = {
        "class_path": "segan_pl.nets.albunet.AlbuNet",
        "init_args": {"pretrained": "/gone/resnet34.pth", "width": WIDTH, "filters": 1},
    }
    checkpoint = Path("/run/checkpoints/last.ckpt")
    state = {f"networks.segmentor.{key}": value for key, value in network(seed=4).state_dict().items()}
    copy = trained._build(spec, {"in_channels": 3, "out_channels": 4}, checkpoint)
    copy.load_state_dict(weights_of("segmentor", state))
    assert torch.equal(copy.encoder.conv1.weight, network(seed=4).encoder.conv1.weight)


def test_nothing_is_loaded_where_nothing_is_asked_for() -> None:
    assert load_pretrained(network()) == []
    assert load_pretrained(nn.Conv2d(1, 1, 3)) == []


class Stranger(nn.Module):
    """A network of a user's, who has other plans with these names."""

    def __init__(self, wanted: object, encoder: object) -> None:
        super().__init__()
        self.pretrained, self.encoder = wanted, encoder


@pytest.mark.parametrize(
    ("wanted", "encoder"),
    [(True, nn.Identity()), ("imagenet", None), ("imagenet", "resnet34"), ("", nn.Identity()), (None, nn.Identity())],
)
def test_a_network_that_uses_the_names_for_something_else_is_left_alone(wanted: object, encoder: object) -> None:
    assert load_pretrained(nn.ModuleDict({"segmentor": Stranger(wanted, encoder)})) == []


def test_any_network_that_declares_both_is_asked(file: Path) -> None:
    stranger = Stranger(str(file), ResNet34(3, width=WIDTH))
    assert list(asking(nn.ModuleDict({"segmentor": stranger}))) == ["segmentor"]
    assert load_pretrained(stranger) == ["encoder: weights of resnet34.pth"]


def test_channels_last_weights_stay_channels_last(file: Path) -> None:
    model = network(source=str(file)).to(memory_format=torch.channels_last)
    load_pretrained(model)
    assert model.encoder.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_imagenets_file_is_fetched_once_into_the_hub_cache(server: Path, tmp_path: Path) -> None:
    cached = tmp_path / "hub/checkpoints" / server.name
    content = server.read_bytes()
    assert find_weights("imagenet") == cached
    assert cached.read_bytes() == content
    server.unlink()  # there is no network any more
    assert find_weights("imagenet") == cached
    assert load_pretrained(network(source="imagenet")) == [f"encoder: weights of {server.name}"]


def test_of_processes_that_start_together_one_fetches_and_the_others_wait(
    server: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Threads for processes: each opens the lock for itself, as a process does."""
    content, calls = server.read_bytes(), []

    def slow(url: str, path: str, **_: object) -> None:
        calls.append(url)
        time.sleep(0.3)
        Path(path).write_bytes(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", slow)
    with caplog.at_level("INFO"), ThreadPoolExecutor(4) as pool:
        (found,) = set(pool.map(find_weights, ["imagenet"] * 4))
    assert calls == [server.as_uri()]
    assert [record.getMessage() for record in caplog.records] == [f"fetching {server.as_uri()} to {found}"]


def test_a_server_that_never_answers_is_given_up(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(pretrained, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/{server.name}")
        monkeypatch.setattr(pretrained, "TIMEOUT", 0.2)
        with pytest.raises(UsageError, match=r"cannot be reached \(timed out\)"):
            find_weights("imagenet")
    assert socket.getdefaulttimeout() is None


def test_a_full_disk_is_no_missing_network(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", full)
    with pytest.raises(UsageError, match=r"cannot be written \(No space left on device\); set TORCH_HOME"):
        find_weights("imagenet")


def test_a_narrower_encoder_is_refused_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("fetched"))
    said = r"pretrained imagenet: its encoder is 64 channels wide, this one 4; give --model.* null, or .*width 64"
    with pytest.raises(UsageError, match=said):
        load_pretrained(network(source="imagenet"))


def test_without_a_network_the_refusal_says_where_to_put_the_file(server: Path, tmp_path: Path) -> None:
    server.unlink()
    where = tmp_path / "hub/checkpoints" / server.name
    with pytest.raises(UsageError, match="cannot be reached") as caught:
        load_pretrained(network(source="imagenet"))
    message = str(caught.value)
    assert f"put it at {where}, or give --model.networks.segmentor.init_args.pretrained its path" in message
    assert "\n" not in message
    assert not where.exists()


def test_an_answer_of_another_hash_is_refused_and_not_kept(server: Path, tmp_path: Path) -> None:
    server.write_bytes(b"<html>log in to this network</html>")
    with pytest.raises(UsageError, match=r"another file, or broke off \(its SHA-256 differs\)"):
        find_weights("imagenet")
    assert not list((tmp_path / "hub").rglob("*.pth"))


def test_a_damaged_file_in_the_cache_is_refused(server: Path) -> None:
    cached = find_weights("imagenet")
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"resnet34-\w+\.pth is not the file .*; delete it"):
        find_weights("imagenet")


def test_the_shipped_url_has_a_hash() -> None:
    assert pretrained.URL == "https://download.pytorch.org/models/resnet34-b627a593.pth"


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
def test_mask_channels_begin_at_zero_and_the_modalities_as_without_them(file: Path, modalities: int) -> None:
    bare, told = network(modalities, str(file)).eval(), network(2 * modalities, str(file)).eval()
    load_pretrained(bare)
    (line,) = load_pretrained(told, mask_channels=modalities)
    assert line.endswith(f", {modalities} mask channels begin at 0")
    kernels = told.encoder.conv1.weight
    assert torch.equal(kernels[:, :modalities], bare.encoder.conv1.weight)
    assert not kernels[:, modalities:].any()
    image, mask_channels = torch.rand(1, modalities, 2, 32, 32), torch.rand(1, modalities, 2, 32, 32)
    torch.testing.assert_close(
        told.encoder.conv1(torch.cat([image, mask_channels], 1)[:, :, 0]), bare.encoder.conv1(image[:, :, 0])
    )
    told(torch.cat([image, mask_channels], 1)).sum().backward()
    assert kernels.grad is not None
    assert bool(kernels.grad[:, modalities:].any())  # they learn


def test_a_file_whose_first_layer_fits_is_taken_as_it_is_with_mask_channels_too(tmp_path: Path) -> None:
    for channels in (4, 8):  # modalities alone, or with their mask_channels
        weights = torchvision_like(channels)
        told = network(8)
        note = load_encoder(told.encoder, weights, tmp_path, mask_channels=4)
        assert torch.equal(told.encoder.conv1.weight[:, :channels], weights["conv1.weight"])
        assert ("begin at 0" in note) == (channels == 4)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pretrained /nowhere/x.pth: no such file; give imagenet, or a .pth"):
        load_pretrained(network(source="/nowhere/x.pth"))


@pytest.mark.parametrize("harm", ["cut", "flip", "noise"])
def test_a_damaged_file_is_refused_by_name(file: Path, harm: str) -> None:
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[: len(content) // 2], "flip": content, "noise": b"no weights at all"}[harm])
    with pytest.raises(UsageError, match=r"init_args.pretrained .*resnet34.pth: damaged"):
        read_weights(file)


def test_pytorch_s_advice_on_a_foreign_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.sh").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(UsageError, match=r"t.sh: damaged checkpoint \(Weights only load failed\); no other one"):
        read_weights(tmp_path / "t.sh")


def test_weights_in_the_form_before_pytorch_1_6_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pth")
    assert torch.equal(read_weights(tmp_path / "old.pth")["a"], torch.arange(3.0))


class Foreign:
    """Something that only code could restore."""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"conv1.weight": Foreign()}, "only running its code could restore"),
        ({"epoch": 3, "state_dict": {}}, "expected tensors by torchvision's names"),
        ([torch.zeros(1)], "expected tensors by torchvision's names"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object, text: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=text):
        read_weights(tmp_path / "other.pth")


def test_keys_must_agree(file: Path) -> None:
    encoder, weights = ResNet34(3, width=WIDTH), torchvision_like()
    del weights["layer3.5.bn2.running_var"]
    weights["layer5.0.conv1.weight"] = weights.pop("bn1.bias")
    with pytest.raises(UsageError) as caught:
        load_encoder(encoder, weights, file)
    assert "2 missing (bn1.bias, layer3.5.bn2.running_var)" in str(caught.value)
    assert "1 unknown (layer5.0.conv1.weight)" in str(caught.value)
    assert str(caught.value).endswith("expected torchvision's resnet34")


def test_shapes_must_agree_so_a_narrow_encoder_takes_no_imagenet_weights(file: Path) -> None:
    with pytest.raises(UsageError, match=r"180 of another shape \(bn1.bias \(4,\) for \(8,\), .*\.\.\.\)"):
        load_encoder(ResNet34(3, width=8), torchvision_like(), file)


def test_a_refused_file_changes_nothing(file: Path) -> None:
    encoder = ResNet34(3, width=WIDTH)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    weights = torchvision_like()
    del weights["layer4.2.bn2.bias"]
    with pytest.raises(UsageError):
        load_encoder(encoder, weights, file)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_older_files_without_counters_load(file: Path) -> None:
    encoder, weights = ResNet34(3, width=WIDTH), torchvision_like()
    older = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    load_encoder(encoder, older, file)
    assert torch.equal(encoder.layer4[2].conv2.weight, weights["layer4.2.conv2.weight"])


def test_four_modalities_take_red_green_blue_and_red_by_three_quarters() -> None:
    kernels = torch.tensor([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    assert inflate(kernels, 4).flatten().tolist() == [0.75, 7.5, 75.0, 0.75]
    assert inflate(kernels, 2).flatten().tolist() == [1.5, 15.0]
    assert inflate(kernels, 1).flatten().tolist() == [111.0]


@pytest.mark.parametrize("channels", [1, 6])
def test_an_inflated_layer_answers_a_grey_picture_as_before(channels: int) -> None:
    kernels = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    grey = torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    expected = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernels)
    found = nn.functional.conv2d(grey.expand(-1, channels, -1, -1), inflate(kernels, channels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_more_modalities_than_colours_are_told_of(file: Path) -> None:
    model = network(4, str(file))
    assert load_pretrained(model) == [
        "encoder: weights of resnet34.pth, its first layer from 3 colours to 4 modalities"
    ]
    assert torch.equal(model.encoder.conv1.weight, inflate(torchvision_like()["conv1.weight"], 4))


def test_weights_of_as_many_modalities_load_as_they_are(file: Path) -> None:
    encoder = ResNet34(4, width=WIDTH)
    assert load_encoder(encoder, torchvision_like(4), file) == "encoder: weights of resnet34.pth"
    with pytest.raises(UsageError, match=r"1 of another shape \(conv1.weight \(4, 4, 7, 7\) for \(4, 5, 7, 7\)\)"):
        load_encoder(ResNet34(5, width=WIDTH), torchvision_like(4), file)


def test_safetensors_without_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UsageError, match=r"pip install safetensors, or give a \.pth file"):
        read_weights(tmp_path / "resnet34.safetensors")


def test_safetensors_load_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch")
    path = tmp_path / "resnet34.safetensors"
    files.save_file(torchvision_like(), path)
    model = network(source=str(path))
    load_pretrained(model)
    assert torch.equal(model.encoder.conv1.weight, torchvision_like()["conv1.weight"])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="damaged weights"):
        read_weights(path)
