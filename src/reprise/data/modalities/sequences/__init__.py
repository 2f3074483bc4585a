"""Labelled sequences of one or several channels, of equal or unequal lengths."""
