"""Source to stream: triggers log keys, a cut reads entries and current rows in one view, records are published."""
