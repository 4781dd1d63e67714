"""`report.html` of a run: one file that opens offline and says what came of it, and why."""
