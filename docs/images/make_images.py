"""Makes the pictures of this folder from real output; needs Chromium.

    TTY_COMPATIBLE=1 TTY_INTERACTIVE=0 COLUMNS=120 .venv/bin/keywatch demo > demo.ansi
    .venv/bin/keywatch simulate -o access.ndjson.gz --seed 7 --labels labels.json \
        --attacks A01,A16,A13
    .venv/bin/keywatch replay access.ndjson.gz -o out
    .venv/bin/python docs/images/make_images.py demo.ansi out/report.html
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu")


def shoot(page: Path, picture: Path, width: int, height: int, scale: float) -> None:
    """Writes what a browser window of this size shows of a local page."""
    size = f"--window-size={width},{height}"
    options = (size, f"--force-device-scale-factor={scale}", f"--screenshot={picture}")
    subprocess.run([*CHROMIUM, *options, page.as_uri()], check=True, timeout=120)  # noqa: S603
    with Image.open(picture) as shot:  # 64 colours are enough and keep it under 300 kB
        small = shot.convert("RGB").quantize(64)
    small.save(picture, optimize=True)


def terminal_page(ansi: Path, page: Path) -> int:
    """The recorded terminal as one SVG in a page; returns its height in pixels."""
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=120, file=nowhere)
        console.print(Text.from_ansi(ansi.read_text(encoding="utf-8").rstrip()))
    svg = console.export_svg(title="make demo", theme=MONOKAI)
    page.write_text(f'<body style="margin:0;background:#fff">{svg}</body>', encoding="utf-8")
    box = svg.split('viewBox="', 1)[1].split('"', 1)[0].split()
    return round(float(box[3]) * 1000 / float(box[2]))


def main() -> None:
    """Both pictures, from a recorded demo and a report."""
    ansi, report = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "demo.html")
        height = terminal_page(ansi, page)
        shoot(page, HERE / "demo.png", 1000, height, 1.0)
    shoot(report, HERE / "report.png", 1100, 1300, 1.0)


if __name__ == "__main__":
    main()
