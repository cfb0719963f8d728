# SPDX-License-Identifier: Apache-2.0
"""torch's store between processes on the loopback interface, see co_rewarding.training.loopback. A separate file,
because torch takes seconds to import.

Imported with the engine (training.engine) and with vLLM's worker (training.weight_sync_vllm), before either makes one.
"""

import socket
import sys
from typing import Any

from torch.distributed import TCPStore

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class LoopbackStore(TCPStore):
    """Overrides `__init__`: a store whose host is loopback listens there alone, where torch's listens everywhere."""

    def __init__(self, host_name: str, port: int, *args: Any, is_master: bool = False, **kwargs: Any) -> None:
        if is_master and host_name in LOOPBACK:
            family = socket.AF_INET6 if ":" in host_name else socket.AF_INET
            listening = socket.create_server((host_name, port), family=family, backlog=1024)
            kwargs |= {"master_listen_fd": listening.detach(), "use_libuv": True}  # the other kind takes no socket
        super().__init__(host_name, port, *args, is_master=is_master, **kwargs)


# what makes the stores of tcp:// and env://; the name in torch.distributed is a function's
sys.modules["torch.distributed.rendezvous"].TCPStore = LoopbackStore
