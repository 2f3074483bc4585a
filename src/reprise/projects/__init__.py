"""Projects in a folder of their own, outside of a clone of reprise."""
