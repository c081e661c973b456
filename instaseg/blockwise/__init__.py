"""Many tasks on one machine or a cluster."""
