"""How much may enter? Limits and breakers decide (core); signals and the loop feed them (shell)."""
