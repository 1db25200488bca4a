"""Frozen backbones, where they run, and what is traced and compiled to run behind them."""
