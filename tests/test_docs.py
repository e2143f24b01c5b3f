"""The documents say what is there: configuration, commands, signals, metrics, numbers, links."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import Counter
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from detector.cli.app import app
from detector.config import Config, SecretRef
from detector.core import errors, fleet, kernel_episodes, kernel_sources
from detector.core.episodes import SIGNALS
from detector.core.references import REFERENCES
from detector.core.settings import ShardSettings
from detector.telemetry import Metrics
from models import fusion

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PAGES += [p for p in [ROOT / "deploy" / "README.md"] if p.exists()]
OURS = [*PAGES, *sorted((ROOT / "notebooks").glob("*.py"))]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def rows_of(text: str) -> Iterator[list[str]]:
    """Cells of all table rows whose first cell is code: ``| `name` | ...``."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def section(text: str, title: str) -> str:
    """A section of a page, its sub-sections included, code blocks skipped."""
    lines, level, out, fenced = text.splitlines(), 0, [], False
    for line in lines:
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) (.*)", line)
        if level and heading and len(heading[1]) <= level:
            break
        if heading and not level and heading[2].startswith(title):
            level = len(heading[1])
        elif level:
            out.append(line)
    assert level, f"there is no section {title!r}"
    return "\n".join(out)


# --- configuration ------------------------------------------------------------------------


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The section model in ``Model`` or ``Model | None``, but for a secret's reference."""
    for kind in (annotation, *getattr(annotation, "__args__", ())):
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        if is_model and kind is not SecretRef:
            return kind
    return None


def fields_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, default as documented) of every entry, tables of a list of sinks too."""
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        where = f"{path}{name}"
        is_top = not path
        if not (is_top and inner):
            yield where, default_text(field.default, inner is not None)
        if inner:
            yield from fields_of(inner, where + ".")


def default_text(default: Any, is_table: bool) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    assert not is_table, "a table with defaults below the top level needs a rule here"
    value = default.value if isinstance(default, Enum) else default
    value = str(value) if isinstance(value, Path) else value
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    return f"`{json.dumps(value)}`"


def documented_entries() -> dict[str, list[str]]:
    rows = rows_of(text_of(DOCS / "CONFIGURATION.md").partition("## Secrets")[0])
    return {cells[0].strip("`"): cells for cells in rows}


def test_every_configuration_entry_is_documented_and_nothing_else():
    """CONFIGURATION.md lists exactly the fields of the configuration."""
    known, said = {p for p, _ in fields_of(Config)}, set(documented_entries())
    assert len(known) > 40
    assert known - said == set(), "not documented"
    assert said - known == set(), "documented, but there is no such entry"


@pytest.mark.parametrize(("entry", "default"), list(fields_of(Config)), ids=lambda v: v)
def test_documented_defaults_are_the_defaults(entry, default):
    """The second column is the model's default; the third says something."""
    name, said, meaning = documented_entries()[entry]
    assert said == default, name
    assert len(meaning) > 10


def test_a_secret_is_documented_by_its_fields():
    """The reference of a secret has exactly the documented forms."""
    rows = rows_of(section(text_of(DOCS / "CONFIGURATION.md"), "Secrets"))
    assert {cells[0].strip("`") for cells in rows} == set(SecretRef.model_fields)


def toml_blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```toml\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
        found += [(f"{page.name}-{i}", block) for i, block in enumerate(blocks)]
    return found


@pytest.mark.parametrize(("where", "block"), toml_blocks(), ids=lambda v: v[:24])
def test_toml_examples_are_accepted(where, block):
    """Every TOML block of the documents is valid configuration."""
    data = tomllib.loads(block)
    if set(data) == {"pepper"}:
        data = {"decode": data}
    Config.model_validate(data)


# --- the event and the registry ------------------------------------------------------------


def test_event_fields_are_documented():
    """The table of the event names every field the decoder reads, and no other."""
    from detector.decode.faults import FIELD_NAMES

    cells = [c[0] for c in rows_of(section(text_of(DOCS / "CONFIGURATION.md"), "The event"))]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(FIELD_NAMES)


def test_registry_fields_are_documented():
    """The table of the registry names every field an entry may have, and no other."""
    from detector.registry import _Line

    cells = [c[0] for c in rows_of(section(text_of(DOCS / "CONFIGURATION.md"), "The key registry"))]
    known = {"class" if f == "class_" else f for f in _Line.__struct_fields__}
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == known


# --- commands and exit codes ---------------------------------------------------------------


def commands() -> list[str]:
    root: Any = typer.main.get_command(app)
    found = []
    for name, command in root.commands.items():
        below = getattr(command, "commands", {})
        found += [f"{name} {sub}" for sub in below] or [name]
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented(command):
    """OPERATIONS.md has each command, which also says what ``--help`` would."""
    rows = rows_of(section(text_of(DOCS / "OPERATIONS.md"), "Commands"))
    assert f"`keywatch {command}`" in {cells[0] for cells in rows}


def test_documented_commands_exist():
    """Whatever a page calls ``keywatch NAME`` in code is a command."""
    known = set(commands()) | {c.split()[0] for c in commands()}
    for page in PAGES:
        inline = re.findall(r"`(?:\.venv/bin/)?keywatch ([a-z][a-z ]*)", text_of(page))
        fenced = re.findall(
            r"^(?:\$ )?(?:\.venv/bin/)?keywatch ([a-z][a-z ]*)", text_of(page), re.MULTILINE
        )
        for words in inline + fenced:
            if page.name == "README.md" and words.startswith(("means", "is", "reads")):
                continue
            two, one = " ".join(words.split()[:2]), words.split()[0]
            assert two in known or one in known, f"{page.name}: keywatch {words}"


def test_exit_codes_are_documented():
    """README has each exit code, and no other."""
    table = section(text_of(ROOT / "README.md"), "Exit codes")
    said = {int(n) for n in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert said == {v for k, v in vars(errors).items() if k.startswith("EXIT_")}


def test_make_targets_named_in_the_documents_exist():
    """``make x`` in a page is a target of the Makefile."""
    makefile = text_of(ROOT / "Makefile")
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text_of(page), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


# --- signals, outputs, metrics ---------------------------------------------------------------


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("page", ["DETECTION.md", "OUTPUTS.md"])
def test_every_signal_is_documented(signal, page):
    """Each signal has a row of its own in both pages."""
    assert f"`{signal}`" in {cells[0] for cells in rows_of(text_of(DOCS / page))}


def test_outputs_list_the_signals_and_no_other():
    """The closed list of OUTPUTS.md is the closed list of the code."""
    rows = rows_of(section(text_of(DOCS / "OUTPUTS.md"), "Signals"))
    assert sorted(cells[0].strip("`") for cells in rows) == sorted(SIGNALS)


def test_references_are_the_mapping():
    """DETECTION.md's table of references is the closed mapping, and each identifier is named."""
    text = section(text_of(DOCS / "DETECTION.md"), "Explanation")
    said = {
        c[0].strip("`"): re.findall(r"T[0-9.]+|API\d+:2023", " ".join(c[1:])) for c in rows_of(text)
    }
    mapping = {signal: [r.id for r in known] for signal, known in REFERENCES.items()}
    assert {signal: said[signal] for signal in mapping} == mapping
    joined = " ".join(text.split())
    for reference in {r for known in REFERENCES.values() for r in known}:
        assert f"{reference.id} {reference.name}" in joined


def test_weights_and_caps_are_the_shipped_ones():
    """DETECTION.md's table of signals shows what models/fusion.py has."""
    rows = {c[0].strip("`"): c for c in rows_of(section(text_of(DOCS / "DETECTION.md"), "The sig"))}
    for family, (cap, settled, young) in fusion.TABLE.items():
        shown = [[float(w) for w in re.findall(r"[0-9.]+", c)] for c in rows[family][2:6]]
        both = [[w, y] if w or y else [0.0] for w, y in zip(settled, young, strict=True)]
        assert shown == [[cap], *both], family


def test_thresholds_and_limits_are_the_shipped_ones():
    """The steps from score to alert, and the caps per key, are those of the code."""
    text = text_of(DOCS / "DETECTION.md")
    settings, steps = ShardSettings(), section(text, "From a score")
    for limits, column in ((settings.stolen, 1), (settings.abused, 2)):
        rows = [r.strip("|").split("|") for r in steps.splitlines() if r.startswith("| ")]
        said = {r[0].strip(): float(r[column].split()[0]) for r in rows if "nats" in r[column]}
        assert said["an episode opens at"] == limits.floor
        assert said["it may alert from"] == limits.threshold
        assert next(v for k, v in said.items() if k.startswith("added")) == limits.cold_extra
        hold = next(v for k, v in said.items() if k.startswith("learning is held"))
        assert hold == pytest.approx(kernel_episodes.HOLD_SHARE * limits.threshold, abs=0.005)
    caps = "{} networks, {} clients, {} routes and {} areas".format(*kernel_sources.VALUES_MAX)
    assert caps in text
    assert f"More than {fleet.HARD_KEYS_MAX} keys" in text.replace("\n", " ")


@pytest.mark.parametrize("name", ["alert", "episode", "summary"])
def test_output_fields_are_documented(name):
    """Every field of the published schemas is in OUTPUTS.md."""
    schema = json.loads(text_of(DOCS / "schema" / f"{name}.schema.json"))
    title = "`summary.json`" if name == "summary" else "Episode and alert"
    rows = rows_of(section(text_of(DOCS / "OUTPUTS.md"), title))
    said = set(re.findall(r"`(\w+)`", " ".join(cells[0] for cells in rows)))
    assert said == set(schema["properties"])


def test_every_metric_is_documented_with_its_labels():
    """OPERATIONS.md lists exactly the metrics of the registry, by type and label."""
    rows = rows_of(section(text_of(DOCS / "OPERATIONS.md"), "Metrics"))
    said = {cells[0].strip("`"): cells for cells in rows}
    metrics = [m for m in vars(Metrics()).values() if hasattr(m, "_labelnames")]
    assert {m._name for m in metrics} == set(said)
    for metric in metrics:
        kind = "counter" if isinstance(metric, Counter) else type(metric).__name__.lower()
        cell = said[metric._name][1]
        assert cell.startswith(kind), metric._name
        assert re.findall(r"`(\w+)`", cell) == list(metric._labelnames), metric._name


# --- the pages themselves --------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page make, as GitHub does."""
    titles = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def links() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        found += [(page, link) for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page))]
    return [(p, link) for p, link in found if not link.startswith(("http://", "https://"))]


@pytest.mark.parametrize(("page", "link"), links(), ids=lambda v: getattr(v, "name", v))
def test_relative_links_resolve(page, link):
    """A relative link leads to a file, and its anchor to a heading."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f"{page.name}: {link}"
    assert target.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", OURS, ids=lambda p: p.name)
def test_no_path_of_a_machine(page):
    """No page names a place that only exists where it was written."""
    places = re.findall(r"(?<![\w.])/(?:work|tmp|home|root|Users|mnt)\b[^\s`)]*", text_of(page))
    assert places == []


def test_pictures_are_small_enough():
    """Pictures in the repository stay under 300 kB each."""
    pictures = [p for p in (DOCS / "images").iterdir() if p.suffix in (".png", ".svg")]
    assert {p.name for p in pictures} >= {"demo.png", "report.png"}
    for picture in pictures:
        assert picture.stat().st_size < 300_000, picture.name
