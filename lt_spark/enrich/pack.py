"""Prompt packs: the words of a domain, in versioned YAML files."""

import string
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from lt_spark.core.errors import ConfigError, nearest
from lt_spark.core.section import Section

_PARTS = {"title", "keywords", "details"}


class ContextExample(Section):
    """An invented history and its reading."""

    titles: tuple[str, ...] = Field(min_length=1)
    keywords: tuple[str, ...] = Field(min_length=1)
    description: str = Field(min_length=1)


class ContextWords(Section):
    """The words of a prompt that reads a history."""

    shared: str
    """How every such prompt begins."""
    title: str = Field(min_length=1)
    """Label of a title in a history."""
    examples: tuple[ContextExample, ...] = ()


class _PackFile(Section):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    version: int = Field(ge=1)
    shared: str
    shared_keywords: str | None = None
    title: str = Field(min_length=1)
    sentences: tuple[str, ...] = Field(min_length=1)
    context: ContextWords

    @field_validator("sentences")
    @classmethod
    def _known_parts(cls, sentences: tuple[str, ...]) -> tuple[str, ...]:
        for sentence in sentences:
            if unknown := parts_of(sentence) - _PARTS:
                raise ValueError(f"{sorted(unknown)[0]!r} is no part of a sentence: expected some of {sorted(_PARTS)}")
        return sentences


@dataclass(frozen=True)
class Pack:
    """The words of a domain.

    Attributes:
        version: name and number, such as ``video-1``.
        shared: how every prompt of an item begins.
        shared_keywords: the same where keywords alone are asked for.
        title: label of an item's title.
        sentences: descriptions made of metadata, the first whose parts are there; parts in braces.
        context: the words of a prompt that reads a history.
    """

    version: str
    shared: str
    shared_keywords: str
    title: str
    sentences: tuple[str, ...]
    context: ContextWords


def load_pack(name_or_path: str) -> Pack:
    """Read a prompt pack: one that lt_spark brings, or a YAML file of the same form.

    Args:
        name_or_path: ecommerce, video, music, social, content, or the path of a file that ends in .yaml or .yml.

    Returns:
        The pack.

    Raises:
        ConfigError: there is no such pack, or the file is not of the form of a pack.
    """
    folder = files("lt_spark.enrich") / "packs"
    known = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    if name_or_path in known:
        return _pack((folder / f"{name_or_path}.yaml").read_text("utf-8"), f"prompt pack {name_or_path}")
    where = f"describe.pack {name_or_path}"
    if not name_or_path.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"{where}: no such prompt pack. Expected one of {', '.join(known)}, or the path of your own .yaml file."
            f"{nearest(name_or_path, known)}"
        )
    try:
        text = Path(name_or_path).read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot be read ({error.strerror}). Expected a YAML file with the keys of a prompt pack; name an "
            f"existing one, or one of {', '.join(known)}."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: expected UTF-8 text, found other bytes. Save it as UTF-8.") from None
    return _pack(text, where)


def parts_of(sentence: str) -> set[str]:
    """Return the names of the parts in braces that a sentence has."""
    try:
        found = list(string.Formatter().parse(sentence))
    except ValueError as error:
        raise ValueError(f"a brace is open or empty: {error}") from None
    # a format or conversion is refused with the name: {title!r} reads as one part nobody knows
    return {
        f"{name}{'!' + way if way else ''}{':' + form if form else ''}"
        for _, name, form, way in found
        if name is not None
    }


def _pack(text: str, where: str) -> Pack:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: is not YAML. Expected the keys of a prompt pack; mend the line.") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where}: expected the keys {', '.join(_PackFile.model_fields)}; found {type(content).__name__}. Copy a "
            "pack that lt_spark brings."
        )
    try:
        read = _PackFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from None
    keywords = read.shared if read.shared_keywords is None else read.shared_keywords
    return Pack(f"{read.name}-{read.version}", read.shared, keywords, read.title, read.sentences, read.context)


def _explain(error: ValidationError, where: str) -> str:
    # an unknown key is the likelier cause of a missing one: it is told first
    detail = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")[0]
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        keys = _keys_beside(detail["loc"])
        return f"{where}: no key '{key}'. Expected some of {', '.join(keys)}.{nearest(str(detail['loc'][-1]), keys)}"
    expected = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{where}: {key}: expected otherwise: {expected}. Mend it; the packs that lt_spark brings are examples."


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    inside: dict[bool, type[Section]] = {True: ContextExample, False: ContextWords}
    model = _PackFile if len(loc) == 1 else inside["examples" in loc]
    return list(model.model_fields)
