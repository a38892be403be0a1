"""The report: one HTML file that carries everything and loads nothing."""
