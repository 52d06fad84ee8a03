"""The verbs below `mailshed queue`, each in a module of its own, imported when it runs."""
