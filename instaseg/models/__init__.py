"""Networks, and their shapes by formula."""
