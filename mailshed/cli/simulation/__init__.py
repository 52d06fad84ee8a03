"""How a simulation is shown: as a table, as a plot, and how far it is."""
