"""One machine without Docker: the embedded servers, the processes, the command line."""
