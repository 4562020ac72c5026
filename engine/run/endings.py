"""The words with which a run says that it is over, by which its launcher knows that it is."""

DONE, STOPPED_EARLY, INTERRUPTED = (
    "done; results in",
    "stopped early; results in",
    "interrupted; go on with --resume",
)
