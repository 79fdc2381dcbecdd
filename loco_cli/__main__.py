"""Entry point of `python -m loco_cli`, which runs `loco`."""

import sys

EXIT_INTERRUPTED = 130  # exit code of a shell for SIGINT: 128 + 2


def main() -> None:
    """Run `loco` with the arguments of this process; Ctrl-C also works while modules load."""
    try:
        from loco_cli.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
