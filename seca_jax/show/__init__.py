"""What people look at: curves, films, pictures of credit, the report page."""
