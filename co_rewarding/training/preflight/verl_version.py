# SPDX-License-Identifier: Apache-2.0
"""The only supported version of verl, checked before the configuration, most of which is verl's.

Our overrides work by name. Another version may silently no longer call one of them, and a reward would stay 0. So each
new version is read first (tests/training/test_verl_seams.py lists the parts), then pinned here and in
requirements*.txt.
"""

from importlib.metadata import PackageNotFoundError, version

VERL = "0.9.1"


def check_verl_version() -> None:
    """
    Raises:
        ValueError: verl is missing or another version. A local version, 0.9.1+cu130, is accepted.
    """
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise ValueError("verl is not installed: run `bash scripts/install_env.sh`") from None
    if found.partition("+")[0] != VERL:
        raise ValueError(
            f"verl is {found}, but this project overrides methods of {VERL} (another version may no "
            "longer call them, without an error): run `bash scripts/install_env.sh`; to support another version, start "
            "with tests/training/test_verl_seams.py"
        )
