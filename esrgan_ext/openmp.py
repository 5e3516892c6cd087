"""How OpenMP's threads wait, decided before torch is loaded: by the environment alone.

OpenMP's threads spin at a barrier while the thread that they wait for may not be running at all:
two training loops on two cores took 31 times as long as one alone. GNU's runtime (torch on Linux)
spins for 300,000 turns by default. Measured with a loop of torch's own on two cores, 1,000 turns
cost 4 % alone (Zen 4; on a Sapphire Rapids 11 to 22 %) and keep a third of the speed beside another
loop; 10,000 keep a quarter (Sapphire Rapids); 0 turns cost 17 %. Pixel losses are trained without
OpenMP's barriers (`training/shards.py`), networks run without them: neither loses anything by this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# GOMP_SPINCOUNT: GNU's runtime, in turns. KMP_BLOCKTIME: LLVM's and Intel's (macOS, Windows), in
# milliseconds, where the default is 200.
_SETTINGS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
_USERS_OWN = ("OMP_WAIT_POLICY", *_SETTINGS)


def waiting_settings(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables with which threads sleep soon; none where the user has chosen how they wait.

    Parameters
    ----------
    environment : mapping, optional
        Where a user's choice would stand; this process's environment by default.
    """
    environment = os.environ if environment is None else environment
    return {} if any(name in environment for name in _USERS_OWN) else dict(_SETTINGS)
