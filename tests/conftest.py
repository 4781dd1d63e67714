"""What all tests share."""

from hypothesis import settings

# How long an example takes says what else the machine does, not whether it is right.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
