"""Where the time goes: recorded while a run goes on, summed up, written down and drawn."""
