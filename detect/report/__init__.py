"""`report.html` of a run: one file, readable offline, with the results and their reasons."""
