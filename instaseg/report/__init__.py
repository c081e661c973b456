"""Pictures and the page that shows them: curves, overlays, HTML."""
