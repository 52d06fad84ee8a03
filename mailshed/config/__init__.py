"""One YAML file, checked as a whole: schema, loader, and the plain values handed to the rest."""
