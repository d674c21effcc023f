"""The tower, and what is kept of it in files."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.core.files import Folder
from lt_spark.engines.encoder import load as load_encoder
from lt_spark.models.text_bert import saved
from lt_spark.models.text_bert.head import Head
from lt_spark.models.text_bert.tower import Base, Tower, build
from tests.models.text_bert.tiny_bert import base_of, section, titles, write_tiny_bert

METHODS = ["lora", "adalora", "full"]
TEXTS = ["red drill", "", "blue oven. grey lamp", "東京 🍵 Zürich", "x" * 5_000, "soap " * 400]


def trained(base: Base, method: str, n_steps: int = 30) -> Tower:
    """A tower whose every learning number was moved: nothing of it is as it came."""
    import torch

    tower = build(base, section(method=method, lora_rank=4), n_steps=n_steps, seed=1)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in tower.learning():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return tower


def vectors(tower: Tower) -> npt.NDArray[Any]:
    return np.concatenate([tower.encode_items(TEXTS), tower.encode_histories(TEXTS)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_before_it_learns_a_tower_is_the_encoder_itself(tiny: str, method: str, pooling: str) -> None:
    base = base_of(tiny, pooling=pooling, max_tokens=16)
    tower = build(base, section(method=method), n_steps=10, seed=0)
    found = tower.encode_items(TEXTS)
    np.testing.assert_allclose(found, load_encoder(base.embed, tiny, "cpu").value.encode(TEXTS), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0, 1, 1, 1, 1], atol=1e-6)
    few = [text for text in TEXTS if text]
    np.testing.assert_allclose(tower.vectors(few, 16).detach().numpy(), tower.encode_items(few), atol=2e-6)


def test_a_history_is_read_further_than_an_item(base: Base) -> None:
    tower = build(base, section(max_tokens=32, item_max_tokens=8), n_steps=1, seed=0)
    long, longer = "red drill blue saw red pan grey oven", "red drill blue saw red pan grey oven lamp"
    assert np.array_equal(tower.encode_items([long]), tower.encode_items([longer]))
    assert not np.allclose(tower.encode_histories([long]), tower.encode_histories([longer]))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_what_is_loaded(base: Base, tmp_path: Path, method: str) -> None:
    tower, folder = trained(base, method), Folder(str(tmp_path / "tower"))
    untouched = build(base, section(method=method), n_steps=30, seed=1)
    assert np.abs(vectors(tower) - vectors(untouched)).max() > 0.01
    manifest = saved.save(folder, tower)
    np.testing.assert_allclose(vectors(saved.load(folder, base)), vectors(tower), atol=2e-6)
    assert (manifest.base, manifest.base_sha256) == ("tiny-bert", base.info.sha256)
    assert manifest.model == f"tiny-bert@1+{method}-{manifest.sha256[:8]}"
    assert saved.read_manifest(folder) == manifest
    kept = load_file(tmp_path / "tower" / manifest.weights)
    if method == "full":
        assert any("word_embeddings" in name for name in kept)
    else:
        assert all(".lora_" in name or ".ranknum" in name for name in kept), "adapters alone"
    said = [path.read_text() for path in (tmp_path / "tower").glob("*.json")]
    assert not any(base.folder in text for text in said), "no path of this machine"
    assert not list((tmp_path / "tower").glob("*.bin"))


def test_peft_and_transformers_read_the_files_too(base: Base, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    lora, full = trained(base, "lora"), trained(base, "full")
    saved.save(Folder(str(tmp_path / "lora")), lora)
    saved.save(Folder(str(tmp_path / "full")), full)
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(base.folder), str(tmp_path / "lora")).eval()
    whole = AutoModel.from_pretrained(tmp_path / "full").eval()
    for theirs, tower in ((adapted, lora), (whole, full)):
        expected = tower.encode_items(["red drill"])
        tower.model = theirs
        np.testing.assert_allclose(tower.vectors(["red drill"], 16).detach().numpy(), expected, atol=2e-6)


def test_another_base_is_refused_by_what_differs(base: Base, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "tower"))
    saved.save(folder, trained(base, "lora"))
    other = base_of(write_tiny_bert(tmp_path / "other", seed=4))
    with pytest.raises(ConfigError, match=f"has sha256 {other.info.sha256}, expected {base.info.sha256}"):
        saved.load(folder, other)
    with pytest.raises(ConfigError, match="has pooling cls, expected mean.*run the stage text_bert again"):
        saved.load(folder, base_of(base.folder, pooling="cls"))
    (tmp_path / "other" / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="has model other, expected tiny-bert"):
        saved.load(folder, base_of(str(tmp_path / "other")))


def test_half_written_and_changed_files_are_refused(base: Base, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "tower"))
    with pytest.raises(StorageError, match="holds no tower: expected manifest.json.*found nothing"):
        saved.load(folder, base)
    tower = trained(base, "lora")
    saved.save(folder, tower, Head(np.array([0.5, -1.0]), 0.25))
    head = saved.load_head(folder)
    assert head is not None and head.weights.tolist() == [0.5, -1.0] and head.bias == 0.25
    weights = tmp_path / "tower" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\0\0\1\0")
    with pytest.raises(StorageError, match="adapter_model.safetensors in .* is not what its manifest says"):
        saved.load(folder, base)
    path = tmp_path / "tower" / "manifest.json"
    for wrong in ("{", json.dumps(json.loads(path.read_text()) | {"format": 2}), "[]", "{}"):
        path.write_text(wrong)
        with pytest.raises(StorageError, match="is not what this version writes"):
            saved.load(folder, base)
    saved.save(folder, tower)
    assert saved.load_head(folder) is None, "of the tower before"


def test_a_kill_while_saving_leaves_no_manifest(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path / "tower"))
    tower = trained(base, "lora")
    saved.save(folder, tower)
    write = Folder.write

    def dies(self: Folder, name: str, content: bytes) -> None:
        write(self, name, content)
        if name.endswith(".safetensors"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        saved.save(folder, tower)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="holds no tower"):
        saved.load(folder, base)


def test_a_state_of_another_tower_is_refused(base: Base) -> None:
    small = build(base, section(method="lora", lora_rank=2), n_steps=1, seed=0)
    state = trained(base, "lora").state()
    with pytest.raises(
        ConfigError, match="weights are of another tower: expected 8 tensors of tiny-bert by lora, and 8"
    ):
        small.set_state(state)
    del state[next(iter(state))]
    with pytest.raises(ConfigError, match="and 1 differ"):
        trained(base, "lora").set_state(state)


def test_a_model_that_no_adapter_fits(tiny: str, tmp_path: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    folder = tmp_path / "gpt"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("manifest.json", "*.safetensors", "config.json"))
    GPT2Model(GPT2Config(vocab_size=420, n_embd=16, n_layer=1, n_head=2, n_positions=64)).save_pretrained(folder)
    base = base_of(str(folder))
    with pytest.raises(ConfigError, match="no adapter is known to fit a model of type gpt2.*text_bert.method=full"):
        build(base, section(method="lora"), n_steps=1, seed=0)
    assert build(base, section(method="full"), n_steps=1, seed=0).encode_items(["red drill"]).shape == (1, 16)


def test_adapters_learn_alone_and_start_by_the_seed(base: Base) -> None:
    one, same, other = (build(base, section(method="lora"), n_steps=1, seed=seed) for seed in (1, 1, 2))
    names = [name for name, p in one.model.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 * 2 and all("lora_" in name for name in names), "layers x (query, value) x (A, B)"
    a, b, c = (tower.state() for tower in (one, same, other))
    assert all((a[name] == b[name]).all() for name in a)
    assert any((a[name] != c[name]).any() for name in a)
    assert len(titles()) == 64


def layers(tower: Tower) -> set[str]:
    return {name.split("layer.")[1].split(".")[0] for name, _ in tower.model.named_modules() if ".layer." in name}


@pytest.mark.parametrize("method", METHODS)
def test_the_lowest_layers_alone_are_taught_saved_and_read_again(base: Base, tmp_path: Path, method: str) -> None:
    whole = build(base, section(method=method), n_steps=30, seed=1)
    assert layers(whole) == {"0", "1"}
    tower = build(base, section(method=method, n_layers=1), n_steps=30, seed=1)
    assert layers(tower) == {"0"}
    lowest = {
        name: value for name, value in whole.model.named_parameters() if "layer.0." in name and "lora" not in name
    }
    for name, value in tower.model.named_parameters():
        if name in lowest:
            assert np.array_equal(value.detach().numpy(), lowest[name].detach().numpy()), name
    assert not np.allclose(vectors(tower), vectors(whole))
    folder = Folder(str(tmp_path / "tower"))
    saved.save(folder, tower)
    assert np.array_equal(vectors(saved.load(folder, base)), vectors(tower))


def test_more_layers_than_there_are_are_refused(base: Base) -> None:
    with pytest.raises(ConfigError, match=r"text_bert\.n_layers is 9, and embed\.model has 2 layers"):
        build(base, section(n_layers=9), n_steps=1, seed=0)


@pytest.mark.parametrize("method", METHODS)
def test_in_8_bits_adapters_still_count(base: Base, method: str) -> None:
    tower = trained(base, method)
    before, untaught = vectors(tower), vectors(build(base, section(method=method), n_steps=1, seed=0))
    tower.to_int8()
    after = vectors(tower)
    assert not np.array_equal(after, before)
    filled = np.linalg.norm(before, axis=1) > 0
    assert ((after * before).sum(1)[filled] > 0.98).all()
    assert (after * before).sum(1)[filled].mean() > (after * untaught).sum(1)[filled].mean()
