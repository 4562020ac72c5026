"""The instructions that kernels are compiled for."""

from collections.abc import Iterator

from engine.doctor.finding import NOTE, OK, PROBLEM, Finding

_SLOW = "in a virtual machine let it see the host's processor (CPU type host); no bit depends on it"


def simd() -> Iterator[Finding]:
    """Say which vector instructions kernels use."""
    from layers.kernels.target import TARGET  # noqa: PLC0415 -- imports numba, which may be broken

    found = f"{TARGET.simd}: {TARGET.width} floats in a register ({TARGET.cpu})"
    if TARGET.fuses:
        yield Finding("SIMD", OK, found)
    else:
        yield Finding(
            "SIMD",
            PROBLEM,
            f"{found}, without fused multiply-adds, so that kernels are slower by far",
            _SLOW,
        )


def tiles() -> Iterator[Finding]:
    """Say whether products of bf16 use Intel's tile unit: it must be there, permitted and right."""
    from layers.kernels import tile_host  # noqa: PLC0415 -- as above
    from layers.kernels.target import TARGET  # noqa: PLC0415 -- as above

    is_there = tile_host.usable(TARGET.features, lambda: True, lambda _: True)
    if not is_there:
        yield Finding("tiles", OK, "this processor has none: bf16 is computed in vector registers")
    elif tile_host.has_tiles():
        yield Finding("tiles", OK, "present, permitted by the system, and right to the bit")
    else:
        yield Finding(
            "tiles",
            NOTE,
            "present, not used, to the same bits: the system does not permit it, or its sums are others",
            "Linux 5.16 or newer permits them, unless a container's seccomp profile forbids arch_prctl",
        )
