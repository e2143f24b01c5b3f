"""The cheapest action that would stop it, and why: advice, never stronger than the evidence.

By rank of ``ACTIONS``: below the threshold ``none``; a ``medium`` alert at most
``block_actor``, which leaves the owner alone; ``high`` at most ``suspend``, which can be
undone; only a ``critical`` one, or a key that the registry calls revoked, ``revoke``.
"""

from __future__ import annotations

from detector.core.episodes import HARD_FACTS, Episode
from detector.core.normal import carries_on, has_gone_quiet

# Signals of which a limit on the rate takes the gain.
BY_RATE = (
    *("surge", "slow_drift", "slow_objects", "enumeration", "sequence"),
    *("actor_volume", "actor_excess", "volume"),
)
_FACTS = {
    "out_of_grant": "Either the grants are out of date or the API lets the key too far: ask first.",
    "decoy": "Nobody needs this route, but the owner may be scanning: ask before cutting it off.",
    "revoked": "The registry ended this key and the gateway takes it: enforcing that hurts nobody.",
    "rotated": "A client was forgotten or somebody has a copy: finish the rotation with the owner.",
}
_CAMPAIGN = "One block stops all these keys' new source and leaves their owners alone."
_COMMON_CAUSE = "A change of the log or the fleet explains it better than an attack on each key."
_REGISTRY = "So many keys at once point at the registry, not at the keys."
_THROTTLE = "A limit can be taken back at once, and accuses nobody."
_BELOW = "The score is below the threshold."
_BY_RATE = "It stands out by how much it takes: a limit slows that and keeps the owner at work."
_BESIDE = "The owner is at work beside it, from other networks: the block leaves that alone."
_APART = "Its network is none of the key's own: the block touches nothing the owner did before."
_MOVED = "The owner's own sources have gone quiet: it may be the owner after a move."
_THEN_ROTATE = " Then give the owner a new key."
_ERRORS = "The refused requests got nothing: cutting the key off would do a guesser's work."
_TOO_LITTLE = "The evidence is too little to stop all the key does."
_NO_BLOCK = "No single block shuts the source out"  # its network is the key's own, or one of many
_WHOLE_KEY = "The evidence is about the whole key"


def advice_of(episode: Episode) -> tuple[str, str]:
    """(action of ``ACTIONS``, why, in a sentence or two that hold nothing from a log)."""
    signal = episode.reasons[0].signal if episode.reasons else ""
    if episode.key == "*":
        return _about_many(signal)
    if signal in HARD_FACTS:
        return "revoke" if signal == "revoked" else "notify", _FACTS[signal]
    if episode.channel == "throttle":
        return "throttle", _THROTTLE
    if episode.severity in ("info", "low"):
        return "none", _BELOW
    if episode.channel == "stolen" and episode.grounds.is_separable:
        return _about_actor(episode)
    if signal in BY_RATE:
        return "throttle", _BY_RATE
    return _about_key(episode, signal)


def _about_many(signal: str) -> tuple[str, str]:
    if signal == "campaign":
        return "block_actor", _CAMPAIGN
    return "notify", _COMMON_CAUSE if signal == "common_cause" else _REGISTRY


def _about_actor(episode: Episode) -> tuple[str, str]:
    """A source that a block can name."""
    owner, is_medium = episode.owner_carries_on, episode.severity == "medium"
    later = "" if is_medium else _THEN_ROTATE
    if carries_on(owner):
        return "block_actor", _BESIDE + later
    if not has_gone_quiet(owner):
        return "block_actor", _APART + later
    if is_medium:
        return "notify", f"{_MOVED} A block could cut them off."
    return "block_actor", f"{_MOVED} Ask them at once, a block would hit them then.{later}"


def _about_key(episode: Episode, signal: str) -> tuple[str, str]:
    """No source can be told apart from the key's own."""
    if signal == "errors":
        return "notify", _ERRORS
    if episode.severity == "medium":
        return "notify", _TOO_LITTLE
    what = _NO_BLOCK if episode.channel == "stolen" else _WHOLE_KEY
    if episode.channel == "stolen" and episode.severity == "critical":
        return "revoke", f"{what}; only another key does."
    return "suspend", f"{what}: only the key itself can be stopped, and that can be undone."
