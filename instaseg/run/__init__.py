"""An experiment: its folder, setups, provenance, parameter sweeps, finished work."""
