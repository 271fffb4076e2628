"""The HTTP server: the questions of the command line as JSON, and one page to ask them from a browser."""
