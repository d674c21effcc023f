"""Configuration files: read, merged, checked, and each value's source known."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, nearest
from lt_spark.core.section import Section

DEFAULT = "default"
FROM_SET = "--set"
_MAX_ERRORS_SHOWN = 8


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where it came from.

    Attributes:
        config: the checked configuration.
        sources: for each key (``segment.head``) where its value came from: ``default``, a file's name or ``--set``.
        path: the file that was read; None where there was none.
    """

    config: Config
    sources: dict[str, str]
    path: str | None = None

    def values(self) -> dict[str, Any]:
        """Return each key (``segment.head``) with its value."""
        return {key: _at(self.config, key) for key in self.sources}


def load_config(path: str | None, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a configuration file, the files that it extends, and settings of the command line.

    A later source wins: the model's defaults, then the file named by ``extends`` (relative to the file that says so),
    then the file, then ``overrides``. Relative paths inside ``source`` and ``tables`` are relative to the current
    directory.

    Args:
        path: a YAML file; None: the defaults alone.
        overrides: settings as ``section.key=value``, the value in YAML (``als.rank=64``, ``evaluate.ks=[5, 10]``).

    Raises:
        ConfigError: a file cannot be read, a key is misspelt or doubled, or a value is of the wrong type or range. The
            message names the file, the key, what was expected and what was found.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, content in _file_chain(path):
        _merge(values, content, name, origins)
    for override in overrides:
        _merge(values, _parse_override(override), FROM_SET, origins)
    where = path or "the defaults"
    try:
        # JSON in strict mode: no string taken for a number, no true taken for 1
        config = Config.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_explain_all(error, origins, where)) from None
    return LoadedConfig(config, {key: origins.get(key, DEFAULT) for key in leaf_keys(Config)}, path)


def with_settings(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """Return a configuration with some values changed.

    Args:
        config: the configuration.
        changes: values by key (``als.rank: 64``).
        where: what names the changes, for errors.

    Raises:
        ConfigError: a key does not exist, or a value is of the wrong type or range.
    """
    values, origins = config.model_dump(mode="json"), dict.fromkeys(changes, where)
    for key, value in changes.items():
        *path, last = key.split(".")
        if not path:
            raise ConfigError(f"{where}: {key}: expected section.key, such as als.rank.")
        at: Any = values
        for depth, part in enumerate(path, start=1):
            if not isinstance(at.get(part), dict):
                raise ConfigError(f"{where}: {_unknown(path[:depth])}")
            at = at[part]
        at[last] = value
    try:
        return Config.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_explain_all(error, origins, where)) from None


def config_hash(config: Config, sections: Sequence[str]) -> str:
    """Return a hash (16 hex digits) of some sections of a configuration; equal values give equal hashes.

    Raises:
        ConfigError: a section that does not exist.
    """
    known = list(Config.model_fields)
    for section in sections:
        if section not in known:
            raise ConfigError(f"no section '{section}' to hash: expected one of {known}.{nearest(section, known)}")
    dump = config.model_dump(mode="json", include=set(sections))
    return hashlib.sha256(json.dumps(dump, sort_keys=True).encode()).hexdigest()[:16]


def leaf_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every key of a configuration model in order, as ``section.key``."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        if _is_section(field.annotation):
            yield from leaf_keys(field.annotation, f"{key}.")  # type: ignore[arg-type]
        else:
            yield key


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses doubled keys and reads 1e3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, str) and (isinstance(key, bool) or not isinstance(key, int)):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} is not text here: put it in quotes", key_node.start_mark
                )
            if str(key) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands here twice: keep one of them", key_node.start_mark
                )
            seen.add(str(key))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse_yaml(text: str, where: str) -> Any:
    try:
        # _Loader is a SafeLoader: it builds plain values only
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        tab = " Indent with spaces, not with tabs." if "\\t" in str(error.problem) else ""
        raise ConfigError(f"{where}{line}: not readable as YAML: {error.problem}.{tab}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not readable as YAML: {str(error).splitlines()[0]}") from None


def _read_file(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file at {path}. Give one with --config, or write one: `lt-spark init FILE...`."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected UTF-8 text, found byte {error.start} that is none. Save it as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}.") from None
    content = _parse_yaml(text, path)
    if content is None:
        raise ConfigError(f"{path} is empty: expected sections such as 'source:' and 'tables:'. See conf/base.yaml.")
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as 'source:', found a {_kind(content)}. See conf/base.yaml.")
    return content


def _file_chain(path: str | None) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, content) of the file and of those it extends, the deepest first."""
    chain: list[tuple[str, dict[str, Any]]] = []
    seen: list[Path] = []
    while path is not None:
        resolved = Path(path).resolve()
        if resolved in seen:
            raise ConfigError(f"{path} extends itself, by way of {[name for name, _ in chain]}. Remove one 'extends'.")
        seen.append(resolved)
        content = _read_file(path)
        parent = content.pop("extends", None)
        chain.append((path, content))
        if parent is not None and not isinstance(parent, str):
            raise ConfigError(f"{path}: 'extends' expects one file name, found a {_kind(parent)}.")
        path = None if parent is None else str(Path(path).parent / parent)
    return chain[::-1]


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value, such as als.rank=64.")
    value: Any = _parse_yaml(text, f"--set {override}") if text.strip() else ""
    model: Any = Config
    for depth, part in enumerate(parts[:-1]):
        field = model.model_fields.get(part)
        if field is None:
            raise ConfigError(f"--set {override}: {_unknown(parts[: depth + 1])}")
        if not _is_section(field.annotation):
            raise ConfigError(
                f"--set {override}: {'.'.join(parts[: depth + 1])} has no keys below it; set it whole, such as "
                f"--set '{'.'.join(parts[: depth + 1])}={{{'.'.join(parts[depth + 1 :])}: {text}}}'."
            )
        model = field.annotation
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _merge(
    into: dict[str, Any],
    new: Mapping[str, Any],
    origin: str,
    origins: dict[str, str],
    prefix: str = "",
    model: type[BaseModel] = Config,
) -> None:
    """Lay ``new`` over ``into``: section by section; a list or a mapping that is a value is replaced whole."""
    for key, value in new.items():
        name = f"{prefix}{key}"
        field = model.model_fields.get(key)
        origins[name] = origin
        if field is None or not _is_section(field.annotation):
            into[key] = value
        elif value is None:  # a section whose keys are all commented out
            into.setdefault(key, {})
        elif not isinstance(value, dict):
            raise ConfigError(
                f"{origin}: {name} is a section: expected keys below it, such as "
                f"{next(leaf_keys(field.annotation))}; found {_shown(value)}."  # type: ignore[arg-type]
            )
        else:
            _merge(into.setdefault(key, {}), value, origin, origins, f"{name}.", field.annotation)  # type: ignore[arg-type]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _at(model: Any, key: str) -> Any:
    for part in key.split("."):
        model = getattr(model, part)
    return model


def _explain_all(error: ValidationError, origins: Mapping[str, str], where: str) -> str:
    details = error.errors(include_url=False)
    # an unknown key is the likelier cause of whatever else is wrong: it comes first
    details.sort(key=lambda detail: detail["type"] != "extra_forbidden")
    lines = list(dict.fromkeys(_explain(detail, origins, where) for detail in details))
    more = f"\n... and {len(lines) - _MAX_ERRORS_SHOWN} more." if len(lines) > _MAX_ERRORS_SHOWN else ""
    return "\n".join(lines[:_MAX_ERRORS_SHOWN]) + more


def _explain(detail: ErrorDetails, origins: Mapping[str, str], where: str) -> str:
    parts = [str(part) for part in detail["loc"]]
    origin = next((origins[key] for key in _prefixes(parts) if key in origins), where)
    key = ".".join(parts)
    if detail["type"] == "extra_forbidden":
        return f"{origin}: {_unknown(parts)}"
    if detail["type"] == "value_error":
        return f"{origin}: {detail['msg'].removeprefix('Value error, ')}."
    expected = re.sub(r"^Input should be (a )?(valid )?", "", detail["msg"])
    hint = (
        " Put it in quotes." if detail["type"] == "string_type" and not isinstance(detail["input"], dict | list) else ""
    )
    return f"{origin}: {key}: expected {expected}; found {_shown(detail['input'])}.{hint}"


def _prefixes(parts: Sequence[str]) -> Iterator[str]:
    for length in range(len(parts), 0, -1):
        yield ".".join(parts[:length])


def _unknown(parts: Sequence[str]) -> str:
    """Say that a key does not exist, and which one was likely meant."""
    model: Any = Config
    for part in parts[:-1]:
        model = model.model_fields[part].annotation
    known = list(model.model_fields)
    key = ".".join(parts)
    elsewhere = [leaf for leaf in leaf_keys(Config) if leaf.rsplit(".", 1)[-1] == parts[-1]]
    # a key of that very name elsewhere is likelier meant than one of another name here
    hint = f" Did you mean '{elsewhere[0]}'?" if elsewhere else nearest(parts[-1], known)
    what = f"the keys of {'.'.join(parts[:-1])}" if len(parts) > 1 else "the sections"
    return f"no such key: {key}.{hint} Expected one of {what}: {', '.join(known)}."


def _kind(value: Any) -> str:
    names = {list: "list", dict: "mapping", str: "text", bool: "true or false", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"{text[:80]}..." if len(text) > 80 else text
