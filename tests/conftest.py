"""What all tests share."""

import signal

from hypothesis import settings

# How long an example takes says what else the machine does, not whether it is right.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

# Under nohup the tests would inherit that SIGHUP is ignored, and so would the commands that are to end by it.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
