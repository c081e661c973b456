"""Loading, checking and describing the configuration."""
