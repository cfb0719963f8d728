# SPDX-License-Identifier: Apache-2.0
"""The processes of a run on CPU, forked from one that has done their imports.

A run is a dozen Python processes (trainer, TransferQueue, the worker that trains, vLLM's server, engine and worker,
rollout loops, rewards, a router), and each would import torch, verl and vLLM for 4 to 10 s: two thirds of the time to
the first step. Here one process, the server, imports them once, beside the checks and Ray's start, and each of the
others is a fork of it that lives after some milliseconds and shares its memory.

    start.py     in the process that starts Ray: starts the server, and names client.py as the Python of Ray's workers
                 (`runtime_env.py_executable`) and of multiprocessing (`multiprocessing.set_executable`)
    client.py    what is started instead of Python: hands its arguments, variables, folder and open files to the server,
                 passes signals on, and ends as the fork ends
    server.py    imports, then forks a process for each client, which does what Python would have done

A process that could not be the same is started by Python itself, as without a server (client.py says when). On GPUs
there is none: a fork cannot use CUDA if its parent has, and these imports already ask CUDA about the GPUs.
"""
