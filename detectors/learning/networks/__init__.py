"""Torch modules, one architecture a file; torch is imported where they are made, not where a version is loaded."""
