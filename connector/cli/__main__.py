"""`python -m connector.cli`: the `voxtrunk` command of this very interpreter."""

from connector.cli import main

main()
