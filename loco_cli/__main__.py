"""`python -m loco_cli` is `loco`."""

from loco_cli.cli.app import main

if __name__ == "__main__":
    main()
