"""Versions of code: by them a stage whose code changed is done again."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any

_CONSTANTS = (bool, int, float, str, tuple)


@cache
def code_version(module: str) -> str:
    """Return a hash of a module's source and of the lt_spark modules that it imports (core's plumbing aside)."""
    digest = hashlib.sha256()
    for name in sorted(imports_of(module)):
        digest.update(_source(name).encode())
    return digest.hexdigest()


@cache
def stage_code(run: Callable[..., Any]) -> str:
    """Return a hash of a stage's code: its function, and what that names, as :func:`code_of_stage` tells."""
    sources, modules = code_of_stage(run)
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\n{sources[name]}\n".encode())
    for name in sorted(modules):
        digest.update(code_version(name).encode())
    return digest.hexdigest()


def code_of_stage(run: Callable[..., Any]) -> tuple[dict[str, str], set[str]]:
    """Return what a stage's function calls.

    Of the files of stages, each of which serves many, only what is named counts; of the rooms, frames, engines and
    kernels whole modules, also those that are imported where they are needed.

    Returns:
        Source, or value, by name of what belongs to files of stages; the names of the other modules of lt_spark.
    """
    found = _Named()
    found.read(run)
    return found.sources, found.modules


class _Named:
    """What functions name, and the functions of files of stages among it."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}
        self.modules: set[str] = set()

    def read(self, function: Any, owner: type | None = None) -> None:
        """Take a function, or a method of ``owner``, and all that it names."""
        function = inspect.unwrap(function)
        name = f"{function.__module__}.{function.__qualname__}"
        if name in self.sources:
            return
        self.sources[name] = inspect.getsource(function)
        typed = {each: hint for each, hint in function.__annotations__.items() if isinstance(hint, type)}
        if owner is not None:
            typed["self"] = owner
        own = {*function.__code__.co_varnames, *function.__code__.co_cellvars}
        known = {each: value for each, value in function.__globals__.items() if each not in own}
        for node in ast.walk(ast.parse(textwrap.dedent(self.sources[name]))):
            if isinstance(node, ast.Name) and node.id in known and known[node.id] not in typed.values():
                self._take(f"{function.__module__}.{node.id}", known[node.id])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                self._take_member(typed.get(node.value.id, known.get(node.value.id)), node.attr)
            elif isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                self.modules.update(each if is_module(each) else str(node.module) for each in names)

    def _take(self, name: str, found: Any) -> None:
        home = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", "")
        if isinstance(found, _CONSTANTS):
            self.sources[name] = repr(found)
        elif isinstance(home, str) and _is_ours(home):
            if not _is_stage_file(home):
                self.modules.add(home)
            elif isinstance(found, type):
                self.sources[name] = inspect.getsource(found)
            elif isinstance(found, FunctionType):
                self.read(found)

    def _take_member(self, holder: Any, name: str) -> None:
        """Take a member of a file of stages, or of a class in one."""
        if isinstance(holder, ModuleType) and _is_stage_file(holder.__name__):
            self._take(f"{holder.__name__}.{name}", getattr(holder, name, None))
        elif isinstance(holder, type) and _is_stage_file(holder.__module__):
            member = inspect.getattr_static(holder, name, None)
            if isinstance(member, property):
                self.read(member.fget, holder)
            elif isinstance(member, FunctionType):
                self.read(member, holder)


def imports_of(module: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return a module and all modules of lt_spark that it imports, core's plumbing aside."""
    if module in seen or not _is_ours(module):
        return seen
    seen = seen | {module}
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if name.startswith("lt_spark.") and is_module(name):
                    seen = imports_of(name, seen)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                seen = imports_of(alias.name, seen)
    return seen


@cache
def is_module(name: str) -> bool:
    """Return whether there is such a module; only the packages above it are imported."""
    # find_spec imports the parent of what it looks for: packages are light, a module may import torch
    return _is_package(name.rpartition(".")[0]) and find_spec(name) is not None


def _is_ours(module: str) -> bool:
    return module.startswith("lt_spark.") and not module.startswith("lt_spark.core")


def _is_stage_file(module: str) -> bool:
    return module.startswith("lt_spark.") and module.count(".") == 1 and not _is_package(module)


@cache
def _source(module: str) -> str:
    spec = find_spec(module)
    loader: Any = spec.loader if spec else None
    return (loader.get_source(module) or "") if loader is not None else ""


@cache
def _is_package(name: str) -> bool:
    parent = name.rpartition(".")[0]
    if parent and not _is_package(parent):
        return False
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None
