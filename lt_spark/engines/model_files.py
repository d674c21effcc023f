"""Models as folders: fetched once by name, described by a manifest, checked before any task, copied once a host."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lt_spark.core.errors import ConfigError, StorageError

MANIFEST = "manifest.json"
FORMAT = 1
"""Version of the manifest's form."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class ModelInfo:
    """What the tables and the keys say of a model.

    Attributes:
        name: as it stands in the tables: no path of a machine.
        revision: version of the package or commit of the hub; empty for a folder of the user's own.
        sha256: hash of all its files, see ``whole_hash``.
        kind: ``language_model``, or ``encoder``.
    """

    name: str
    revision: str
    sha256: str
    kind: str = "language_model"


def resolve(model: str, files_root: str) -> str:
    """Return the folder that a conf's ``model`` means.

    Args:
        model: a folder (path, URI, alias of an archive), or the bare name of one.
        files_root: the conf's ``files.root``.

    Returns:
        The folder as it stands, or ``files_root``/models/``model`` for a bare name that is no folder here.
    """
    bare = "/" not in model and not model.startswith((".", "~"))
    if bare and not os.path.isdir(model):
        return f"{files_root.rstrip('/')}/models/{model}"
    return os.path.expanduser(model)


def describe_folder(folder: str) -> ModelInfo:
    """Return what is known of a model's folder: from its manifest, or by hashing a folder of the user's own.

    Raises:
        StorageError: the folder is missing or cannot be read.
    """
    files = _Folder(folder)
    sizes = files.sizes()
    if MANIFEST in sizes:
        manifest = files.json(MANIFEST)
        return ModelInfo(manifest["name"], manifest["revision"], manifest["sha256"], manifest["kind"])
    name = folder.rstrip("/").rsplit("/", 1)[-1]
    return ModelInfo(name, "", _hash_of_folder(folder, tuple(sorted(sizes.items()))), _kind(files.json("config.json")))


def check_folder(folder: str, *, revision: str = "", sha256: str = "") -> ModelInfo:
    """Refuse, before any task starts, a folder that a task could not load.

    Args:
        folder: path or URI.
        revision: expected version; empty: any.
        sha256: expected hash of the whole, all files hashed anew; empty: only the sizes are compared.

    Returns:
        What is known of it.

    Raises:
        StorageError: it is missing, incomplete or in a form that is not loaded.
        ConfigError: it is another version, other files, or asks for code of its own.
    """
    files = _Folder(folder)
    sizes = files.sizes()
    if "config.json" not in sizes:
        gguf = any(name.endswith(".gguf") for name in sizes)
        mend = "run: lt-spark models fetch FOLDER --to NEW_FOLDER, which converts it once" if gguf else _FETCH
        raise StorageError(f"model folder {folder}: no config.json{' but a GGUF file' if gguf else ''}; {mend}")
    if not any(name.endswith(".safetensors") for name in sizes):
        pickled = any(name.endswith(PICKLES) for name in sizes)
        found = "only pickled weights, which may run code" if pickled else "no weights"
        raise StorageError(f"model folder {folder}: expected *.safetensors, found {found}; convert it to safetensors")
    for name in ("config.json", "tokenizer_config.json"):
        if name in sizes and "auto_map" in files.json(name):
            raise ConfigError(
                f"model folder {folder}: {name} asks for code of its own (auto_map), which is never run; "
                f"choose a model whose architecture transformers knows"
            )
    info = describe_folder(folder)
    if revision and info.revision != revision:
        raise ConfigError(f"model folder {folder}: revision '{revision}' expected, found '{info.revision}'; {_FETCH}")
    if MANIFEST in sizes:
        _check_complete(folder, files.json(MANIFEST), sizes)
    if sha256:
        found = _hash_of_folder(folder, tuple(sorted(sizes.items())))
        if sha256.lower() not in (found, info.sha256) or found != info.sha256:
            raise ConfigError(f"model folder {folder}: sha256 {sha256} expected, found {found}; {_FETCH}")
    return info


def local_copy(folder: str) -> str:
    """Return a local folder with the model, on the executor that asks.

    A local or mounted folder is used as it is. Another is copied once a host, under a lock, checked against its
    manifest, and renamed when whole: a copy that was killed is never used.

    Args:
        folder: path or URI.

    Raises:
        StorageError: it cannot be read, has no manifest, or the copy differs from it.
    """
    local = _local_path(folder)
    if local is not None:
        if not os.path.isdir(local):
            raise StorageError(f"model folder {folder} is not on this executor; {_FETCH}")
        return local
    files = _Folder(folder)
    if MANIFEST not in files.sizes():
        raise StorageError(f"model folder {folder} has no {MANIFEST} to check a copy against; {_FETCH}")
    manifest = files.json(MANIFEST)
    cache = Path(os.environ.get("LT_SPARK_CACHE") or "~/.cache/lt_spark").expanduser() / "models"
    target = cache / manifest["sha256"]
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{manifest['sha256']}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the process ends, however it ends
        if not target.is_dir():
            with whole_or_not_at_all(target) as part:
                for name in [*manifest["files"], MANIFEST]:
                    files.copy(name, part / name)
                _check_hashes(folder, manifest, part)
    return str(target)


def write_manifest(folder: Path, *, name: str, source: str, revision: str) -> ModelInfo:
    """Write the manifest of a folder that holds all else."""
    hashes = file_hashes(folder)
    sizes = {file: (folder / file).stat().st_size for file in hashes}
    kind = _kind(json.loads((folder / "config.json").read_text()))
    info = ModelInfo(name, revision, whole_hash(hashes), kind)
    said: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "kind": kind,
        "source": source,
        "revision": revision,
        "sha256": info.sha256,
        "files": {file: {"bytes": sizes[file], "sha256": hashes[file]} for file in sorted(hashes)},
    }
    (folder / MANIFEST).write_text(json.dumps(said, indent=2) + "\n")
    return info


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a local folder, the manifest left out, by its path within it."""
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST:
            with open(path, "rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def whole_hash(hashes: dict[str, str]) -> str:
    """Return one hash of all files: of the sorted lines ``hash  path``, as sha256sum writes them."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@contextmanager
def whole_or_not_at_all(target: Path) -> Iterator[Path]:
    """Give a new folder beside ``target`` that takes its place when all went well, and is removed otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield part
        # mkdtemp and safetensors let nobody else in, and executors may be another user's
        for path in (part, *part.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


_FETCH = "run: lt-spark models fetch SOURCE --to FOLDER"


def _kind(config: dict[str, Any]) -> str:
    architectures = config.get("architectures") or []
    return "language_model" if any(name.endswith("ForCausalLM") for name in architectures) else "encoder"


def _check_complete(folder: str, manifest: dict[str, Any], sizes: dict[str, int]) -> None:
    for name, said in manifest["files"].items():
        if sizes.get(name) != said["bytes"]:
            found = f"{sizes[name]} bytes" if name in sizes else "nothing"
            raise StorageError(f"model folder {folder}: {name} has {found}, expected {said['bytes']} bytes; {_FETCH}")


def _check_hashes(folder: str, manifest: dict[str, Any], copy: Path) -> None:
    expected = {name: said["sha256"] for name, said in manifest["files"].items()}
    found = file_hashes(copy)
    differing = sorted(name for name in expected if found.get(name) != expected[name])
    if differing or whole_hash(found) != manifest["sha256"]:
        raise StorageError(f"model folder {folder}: {', '.join(differing) or MANIFEST} is not what it was; {_FETCH}")


@lru_cache(maxsize=32)
def _hash_of_folder(folder: str, sizes: tuple[tuple[str, int], ...]) -> str:
    """Hash a folder once a process; ``sizes`` makes a folder that has grown another one."""
    local = _local_path(folder)
    if local is not None:
        return whole_hash(file_hashes(Path(local)))
    files = _Folder(folder)
    return whole_hash({name: files.hash(name) for name, _ in sizes if name != MANIFEST})


def _local_path(folder: str) -> str | None:
    """Return the path of a folder on this host, mounted ones among them; None for another store's URI."""
    if ":/" not in folder:
        return os.path.expanduser(folder)
    mounted = "/dbfs" + folder.removeprefix("dbfs:") if folder.startswith("dbfs:/") else ""
    return mounted if os.path.isdir(mounted) else None


class _Folder:
    """The files of a folder, wherever it is."""

    def __init__(self, folder: str) -> None:
        """Open it.

        Raises:
            StorageError: no library here reads this kind of address.
        """
        import pyarrow.fs as fs

        self.folder = folder
        local = _local_path(folder)
        try:
            if local is not None:
                self._files, self._root = fs.LocalFileSystem(), os.path.abspath(local)
            else:
                uri = folder.replace("s3a://", "s3://", 1).replace("s3n://", "s3://", 1)
                self._files, self._root = _filesystem(uri)
        except (ImportError, ValueError, OSError) as error:
            raise StorageError(
                f"model folder {folder} cannot be opened ({type(error).__name__}); use a folder that is mounted on the "
                f"executors, or install the fsspec library of its store (s3fs, adlfs, gcsfs)"
            ) from error

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file by its path within the folder.

        Raises:
            StorageError: the folder is missing.
        """
        import pyarrow.fs as fs

        try:
            infos = self._files.get_file_info(fs.FileSelector(self._root, recursive=True))
        except OSError as error:
            raise StorageError(f"model folder {self.folder} is missing or cannot be read; {_FETCH}") from error
        root = self._root.rstrip("/") + "/"
        return {info.path.removeprefix(root): info.size for info in infos if info.type == fs.FileType.File}

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON file's content.

        Raises:
            StorageError: it is missing or no JSON object.
        """
        try:
            with self._files.open_input_stream(f"{self._root}/{name}") as file:
                content = json.loads(file.read())
        except (OSError, ValueError) as error:
            raise StorageError(f"model folder {self.folder}: {name} is missing or no JSON; {_FETCH}") from error
        if not isinstance(content, dict):
            raise StorageError(f"model folder {self.folder}: {name} is no JSON object; {_FETCH}")
        return content

    def hash(self, name: str) -> str:
        """Return a file's SHA-256."""
        digest = hashlib.sha256()
        with self._files.open_input_stream(f"{self._root}/{name}") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def copy(self, name: str, to: Path) -> None:
        """Copy a file to a local path."""
        to.parent.mkdir(parents=True, exist_ok=True)
        with self._files.open_input_stream(f"{self._root}/{name}") as file, open(to, "wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 22)


def _filesystem(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI and the path in it: pyarrow's own, else fsspec's."""
    import pyarrow.fs as fs

    try:
        files, path = fs.FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError):
        import fsspec  # type: ignore[import-untyped]

        found, path = fsspec.core.url_to_fs(uri)
        files = fs.PyFileSystem(fs.FSSpecHandler(found))
    return files, path
