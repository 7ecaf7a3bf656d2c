"""`python -m fullconv`."""

from fullconv.cli import main

main()
