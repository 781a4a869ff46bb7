"""Statistics of many skies brought together, and their files."""
