"""Whether this machine is ready to train, and what to mend: a check a subject, which may fail in any way."""
