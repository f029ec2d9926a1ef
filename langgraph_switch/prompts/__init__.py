"""What a trace looks like to a candidate and to the switcher. Knows neither torch nor graphs."""
