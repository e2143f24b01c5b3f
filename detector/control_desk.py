"""Takes requests from the state directory into the running loop, one control record at a time."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from detector.controls import ControlLog, ended, resolved
from detector.core.control import Control
from detector.core.errors import TemporaryError
from detector.core.fleet import FleetStage
from detector.partitions import Partitions
from detector.telemetry import Controlled, Metrics

_log = structlog.get_logger("keywatch.control")


class ControlDesk:
    """Between two turns of the loop: request -> journal -> shards and fleet stage.

    A record takes effect at the next offset of every partition, and for the fleet stage at the
    watermark, as they are when it is journalled.

    Parameters
    ----------
    every_s
        Wall time between two looks for requests.
    """

    def __init__(
        self,
        log: ControlLog,
        partitions: Partitions,
        metrics: Metrics,
        every_s: float,
        monotonic: Callable[[], float],
        step_hook: Callable[[str], None],
    ) -> None:
        self._controls = log
        self._partitions = partitions
        self._metrics = metrics
        self._every_s = every_s
        self._monotonic = monotonic
        self._step = step_hook
        self._asked_s = float("-inf")
        self._not_before_us = 0

    def restore(self, fleet: FleetStage, alerted_us: int) -> None:
        """Reads the journal; what the restored state does not have is to be applied again.

        ``alerted_us`` is the event time of the newest journalled alert. An earlier life raised it
        before anything that is still asked for, so nothing takes effect before it.
        """
        self._not_before_us = alerted_us
        self._controls.load()
        self._partitions.journal = self._controls.records
        for made in self._controls.records:
            if made.sequence > fleet.sequence:
                fleet.tell(made.record, made.sequence)

    def turn(self, fleet: FleetStage, watermark_us: int) -> None:
        """Does what is asked for. Waits for a partition and for what was known before."""
        now_s = self._monotonic()
        if now_s - self._asked_s < self._every_s or not len(self._partitions):
            return
        if watermark_us <= self._not_before_us:
            return
        self._asked_s = now_s
        try:
            for key in self._controls.requests():
                self._grant(key, fleet, watermark_us)
            for record in self._controls.ends_by(watermark_us):
                self._take(ended(record, watermark_us), "", fleet)
        except TemporaryError as e:
            _log.error("a control record waits", error=str(e))

    def _grant(self, key: str, fleet: FleetStage, watermark_us: int) -> None:
        request = self._controls.read(key)
        if request is None:
            return
        alert = self._controls.alert(request.alert_id) if request.alert_id else None
        record = resolved(request, alert, watermark_us, self._partitions.factors_at)
        if record is None:
            self._controls.refuse(key, "there is no such alert")
            return
        self._take(record, key, fleet)

    def _take(self, record: Control, request: str, fleet: FleetStage) -> None:
        self._step("run.before_control")
        made = self._controls.journal(record, request, self._partitions.offsets)
        self._step("run.after_control")
        is_known = self._partitions.control(made)
        fleet.tell(made.record, made.sequence)
        self._controls.done(request)
        self._step("run.control_done")
        verdict = type(record).__name__.lower()
        Controlled(verdict).emit(self._metrics)
        _log.info("control", verdict=verdict, key=record.key, known=is_known)
