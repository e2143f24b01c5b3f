"""A seeded simulator of API key traffic: benign life of a fleet, and attacks with labels."""

from replay.simulate.big import big_fleet, write_big_fleet
from replay.simulate.columns import EventColumns
from replay.simulate.demo import DemoScenario, demo_scenario
from replay.simulate.fleet import Fleet, simulate
from replay.simulate.output import write_ndjson
from replay.simulate.settings import ATTACK_KINDS, AttackPlan, FleetSettings, KeyClass

__all__ = [
    "ATTACK_KINDS",
    "AttackPlan",
    "DemoScenario",
    "EventColumns",
    "Fleet",
    "FleetSettings",
    "KeyClass",
    "big_fleet",
    "demo_scenario",
    "simulate",
    "write_big_fleet",
    "write_ndjson",
]
