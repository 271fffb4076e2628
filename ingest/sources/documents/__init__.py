"""Documents of every format as text that keeps their structure."""
