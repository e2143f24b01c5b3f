"""The command ``keywatch``: the place where everything is put together."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line; ends the process with a documented exit code.

    A known error is one sentence on stderr. An unknown one is a bug: one sentence too, with
    its traceback only when ``KEYWATCH_DEBUG=1``, because a traceback may show log content.
    """
    from detector.cli.app import app
    from detector.core.errors import EXIT_INTERNAL, KeywatchError
    from detector.safe_text import safe

    try:
        app(prog_name="keywatch")
    except KeywatchError as e:
        _say(f"keywatch: {safe(e, 1000)}")
        sys.exit(e.exit_code)
    except Exception as e:
        if os.environ.get("KEYWATCH_DEBUG") == "1":
            raise
        _say(
            f"keywatch: internal error ({type(e).__name__}), please report it; "
            "KEYWATCH_DEBUG=1 shows where"
        )
        sys.exit(EXIT_INTERNAL)


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


__all__ = ["main"]
