"""Style that a machine can check: who imports whom, sizes, and what is banned where."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for top in ("detector", "models", "replay") for p in (ROOT / top).rglob("*.py"))

# What a part may import of this project. Order matters: the first prefix that fits decides.
ALLOWED = {
    "models": {"models"},
    "detector.core": {"detector.core", "models"},
    "detector.decode": {"detector.decode", "detector.core", "models._jit"},
    "detector.sources": {"detector.sources", "detector.core", "detector.config"},
    "detector.stores": {"detector.stores", "detector.core"},
    "detector.sinks": {
        "detector.sinks",
        "detector.core",
        "detector.stores",
        "detector.config",
        "detector.safe_text",
        "detector.journal",
    },
    "replay": {
        "replay",
        "models",
        "detector.core",
        "detector.decode",
        "detector.stores",
        "detector.config",
        "detector.detection_settings",
        "detector.registry",
        "detector.safe_text",
        "detector.journal",
    },
}
PURE = ("models", "detector.core")
IMPURE_MODULES = {
    "asyncio",
    "http",
    "logging",
    "os",
    "pathlib",
    "random",
    "requests",
    "secrets",
    "socket",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "urllib3",
}
PURE_EXCEPTIONS = {"models._jit"}  # chooses the cache directory of compiled kernels
BANNED_EVERYWHERE = {"pickle", "marshal", "shelve", "dill"}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def within(name: str, prefixes: set[str]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_the_right_way(path):
    """Models -> core -> decode, sources, sinks, stores; replay never a live sink."""
    name = module_name(path)
    for part, allowed in ALLOWED.items():
        if within(name, {part}):
            ours = {i for i in imports(parsed(path)) if within(i, {"detector", "models", "replay"})}
            wrong = {i for i in ours if not within(i, allowed) and i not in ("detector", "models")}
            assert not wrong, f"{name} may not import {sorted(wrong)}"
            return


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if within(module_name(p), set(PURE))], ids=module_name
)
def test_pure_code_touches_nothing(path):
    """Models and detector.core import no clock, file, network, log or randomness."""
    if module_name(path) in PURE_EXCEPTIONS:
        return
    wrong = {i for i in imports(parsed(path)) if i.split(".")[0] in IMPURE_MODULES}
    assert not wrong, f"{module_name(path)} is pure and may not import {sorted(wrong)}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_unpickling(path):
    """Nothing here can be made to run code out of a file."""
    wrong = {i for i in imports(parsed(path)) if i.split(".")[0] in BANNED_EVERYWHERE}
    assert not wrong


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_sizes(path):
    """A function has at most 70 lines, a module at most 400."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 70, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_set_is_iterated_where_scores_are_made(path):
    """Sets have no order across processes: pure code loops over none."""
    if not within(module_name(path), set(PURE)):
        return
    for node in ast.walk(parsed(path)):
        loops = []
        if isinstance(node, ast.For):
            loops = [node.iter]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
            loops = [g.iter for g in node.generators]
        for it in loops:
            assert not isinstance(it, ast.Set | ast.SetComp)
            assert not (isinstance(it, ast.Call) and getattr(it.func, "id", "") == "set")
