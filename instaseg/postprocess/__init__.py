"""Repair of instances after they were found."""
