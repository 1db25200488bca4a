"""The detector families, a file each, and their names."""
