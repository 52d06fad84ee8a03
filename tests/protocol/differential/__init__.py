"""Our engine and the libraries' own classes, held against each other: same replies, same bytes."""
