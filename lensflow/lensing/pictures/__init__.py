"""What is drawn of sheets, maps, patches and statistics."""
