"""Measurements, side by side; each is a script of its own."""
