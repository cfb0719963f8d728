# SPDX-License-Identifier: Apache-2.0
"""The one version of verl that a run may have, checked before the configuration, most of which is verl's.

What we override of verl is found by name. Another version may no longer call a method of ours, and no error says so: a
reward would stay 0. So each version is read first (tests/training/test_verl_seams.py lists what of it), then pinned
here and in requirements*.txt.
"""

from importlib.metadata import PackageNotFoundError, version

VERL = "0.9.1"


def check_verl_version() -> None:
    """
    Raises:
        ValueError: one line; verl is missing or is another one. A local version, 0.9.1+cu130, is the same one.
    """
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise ValueError("verl is not installed: run `bash scripts/install_env.sh`") from None
    if found.partition("+")[0] != VERL:
        raise ValueError(
            f"verl is {found}, and a run needs {VERL}, whose overridden methods were read (another version may no "
            "longer call them, without an error): run `bash scripts/install_env.sh`; to move to another version, begin "
            "with tests/training/test_verl_seams.py"
        )
