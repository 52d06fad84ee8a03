"""One module per verb: `add_parser(subparsers)` says what it takes, `run(args)` does it."""
