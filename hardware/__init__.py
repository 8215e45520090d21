"""Cameras: drivers, cooling, plans of exposures and their execution."""
