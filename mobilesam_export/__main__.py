"""`python -m mobilesam_export`."""

from mobilesam_export.cli import main

main()
