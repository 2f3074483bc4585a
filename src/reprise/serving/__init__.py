"""Answer predictions over HTTP: `reprise serve`."""
