"""One module for each command: configuration -> library call -> record. Imported when its command is run."""
