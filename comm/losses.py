"""What ranks get that are left when another one dies."""


class RankLostError(RuntimeError):
    """Another rank has died. All ranks that are left get it, from whatever they communicate by."""
