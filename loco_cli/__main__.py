"""`python -m loco_cli` is `loco`."""

import sys

EXIT_INTERRUPTED = 130  # as a shell has it: 128, and SIGINT's number


def main() -> None:
    """Run `loco` with the arguments of this process; Ctrl-C is heeded while it is still loading."""
    try:
        from loco_cli.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
