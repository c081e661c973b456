"""Synapses: pre- and postsynaptic sites and clefts as points, and which site belongs to which."""
