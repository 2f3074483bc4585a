"""reprise: every number on the dashboard can be run again and comes out the same."""
