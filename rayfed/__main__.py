"""`python -m rayfed`."""

from rayfed.cli import main

main()
