"""Defects that no camera saw: synthetic ones that judge, simulated ones that teach."""
