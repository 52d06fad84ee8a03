"""`python -m mailshed` is the same as the `mailshed` command."""

from mailshed.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
