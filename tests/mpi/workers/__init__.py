"""Programs that the MPI tests start on every rank."""
