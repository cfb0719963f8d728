# SPDX-License-Identifier: Apache-2.0
"""Processes of a CPU run, forked from one that has already done the imports.

A run is a dozen Python processes (trainer, TransferQueue, the worker that trains, vLLM's server, engine and worker,
rollout loops, rewards, a router), and each would import torch, verl and vLLM for 4 to 10 s: two thirds of the time to
the first step. Here one process, the server, imports them once, in parallel with the checks and Ray's start; the others
are forks of it, ready within milliseconds and sharing its memory.

    start.py     in the process that starts Ray: starts the server, and names client.py as the Python of Ray's workers
                 (`runtime_env.py_executable`) and of multiprocessing (`multiprocessing.set_executable`)
    client.py    what is started instead of Python: hands its arguments, variables, folder and open files to the server,
                 passes signals on, and ends as the fork ends
    server.py    imports, then forks a process for each client, which acts as Python would have

A process that cannot be forked faithfully is started by Python itself (client.py says when). GPU runs have no server: a
fork cannot use CUDA if its parent has, and these imports already query CUDA.
"""
