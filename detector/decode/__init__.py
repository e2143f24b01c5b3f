"""Bytes to columns: decoders and dead letters.

The heavy part (numba) loads when a decoder is made, not when this is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from detector.decode.dead_letter import DeadLetterFile
from detector.decode.settings import DecodeSettings

if TYPE_CHECKING:
    from detector.decode.decoder import AutoDecoder, CanonicalDecoder, CombinedDecoder

Format = Literal["auto", "canonical", "combined"]

__all__ = ["DeadLetterFile", "DecodeSettings", "Format", "make_decoder"]


def make_decoder(
    format: Format,  # noqa: A002 - the configuration's own word
    settings: DecodeSettings,
) -> CanonicalDecoder | CombinedDecoder | AutoDecoder:
    """A ``core.ports.Decoder`` for one format.

    ``auto`` decides by the first record that is one or the other. One thread at a time may use a
    decoder; results depend on no earlier call (but for that decision). ``decoder.maker`` holds
    ``clamped_late``, ``clamped_future`` and ``raw_keys``.
    """
    from detector.decode.decoder import AutoDecoder, CanonicalDecoder, CombinedDecoder

    if format == "auto":
        return AutoDecoder(settings)
    return (CanonicalDecoder if format == "canonical" else CombinedDecoder)(settings)
