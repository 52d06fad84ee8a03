"""Who is it? What a client says with AUTH, who finds out whether it is true, and what follows."""
