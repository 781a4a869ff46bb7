"""The light-cone mesh of a simulation: its files, where its rows are, adding them up, simulating it."""
