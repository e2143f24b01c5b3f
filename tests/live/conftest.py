"""One embedded broker for all tests of this folder; each test has its own topic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detector.broker import EmbeddedBroker
from tests.live.service import Service


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def start() -> Iterator[Callable[[Path], Service]]:
    """Starts services; none outlives its test."""
    started: list[Service] = []

    def one(config: Path) -> Service:
        started.append(Service(config))
        return started[-1]

    yield one
    for service in started:
        service.kill()
