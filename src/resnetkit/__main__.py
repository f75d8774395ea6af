"""`python -m resnetkit` is the command."""

from resnetkit.cli import main

main()
