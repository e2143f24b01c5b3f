"""``python -m detector`` is ``keywatch``."""

from detector.cli import main

main()
