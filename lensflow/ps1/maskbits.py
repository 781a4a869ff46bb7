"""The mask bits of Pan-STARRS1 stacks, in the order and spelling of the mask files' headers."""

from enum import IntFlag


class MaskBit(IntFlag):
    """What is wrong with a pixel (Waters et al. 2020, and the MSKNAMnn/MSKVALnn cards of stack masks)."""

    DETECTOR = 1
    FLAT = 2
    DARK = 4
    BLANK = 8
    CTE = 16
    SAT = 32
    LOW = 64
    SUSPECT = 128
    BURNTOOL = 128  # the survey gave one bit two names
    CR = 256
    SPIKE = 512
    GHOST = 1024
    STREAK = 2048
    STARCORE = 4096
    CONV_BAD = 8192
    CONV_POOR = 16384
    MARK = 32768


MASK_VALUE = 8575  # the bits that the survey counts as bad: all of 0..8 without SUSPECT, and CONV.BAD

# (MSKNAMnn, MSKVALnn) as stack masks list them
HEADER_NAMES: tuple[tuple[str, int], ...] = (
    ("DETECTOR", 1),
    ("FLAT", 2),
    ("DARK", 4),
    ("BLANK", 8),
    ("CTE", 16),
    ("SAT", 32),
    ("LOW", 64),
    ("SUSPECT", 128),
    ("CR", 256),
    ("SPIKE", 512),
    ("GHOST", 1024),
    ("STREAK", 2048),
    ("STARCORE", 4096),
    ("CONV.BAD", 8192),
    ("CONV.POOR", 16384),
    ("BURNTOOL", 128),
    ("MASK.VALUE", MASK_VALUE),
    ("MARK.VALUE", 32768),
)
