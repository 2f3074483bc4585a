"""Images with a class each: published arrays, or picture files of the user."""
