# SPDX-License-Identifier: Apache-2.0
"""What this project adds to verl 0.9.1. From a prompt to its reward, file by file:

    prompt     dataset.py → trainer.py (question, view; no ground truth) → agent_loop.py → verl and vLLM → trainer.py
    response   rollout_io.py (its text: decoding.py; its answer: algo/answers.py) → reward_manager.py →
               reward_manager.py of the tree
    reward     algo/rewards.py → algo/voting.py, algo/payout.py → algo/equivalence/ → label_guard.py, which leaves out
               labels that flip → rollout_io.py writes it into `rm_scores`

Then verl computes the advantage, KL and update. While the workers update, a thread computes the metrics of the vote;
they join the step's metrics, in which run_monitor.py looks for signs of collapse. The other files:

    start      launch.py; before Ray preflight/ checks all that can be checked: memory (estimate.py has the formulas),
               the prompts, the run's name (run_name.py), and whether it is the run that was begun
               (started_as.py); run_script.py knows the run script's variables, wandb_run.py the run's id at wandb;
               forking/ has the imports of all processes on CPU done once, router.py spares one of them any, and
               start_times.py says where the time went
    in a run   settings.py holds our blocks of the configuration, config/ what differs from verl's; engine.py makes
               log-probabilities and token statistics in chunks, and micro-batches; checkpoint.py saves a run's state so
               that no kill loses it (checkpoint_files.py: whether all of it is there); weight_sync*.py gives a run
               sockets of its own to vLLM, and loopback*.py keeps a run on one machine off the network
    end        stopping.py ends a run on a signal, leftovers.py cleans up after it, on_end.py runs a command

No label-free reward reads a ground truth. The first of these is the guarantee, the other two make a mistake harmless:

1. the function that takes the vote has no argument for one, and a rollout no field (algo/rewards.py, algo/rollouts.py);
   a reward that is a function gets ground truths only if it says that it needs_labels, alone or in a sum
   (algo/methods.py, algo/own_reward.py);
2. training rows carry none where verl's per-response reward looks (rollout_io.hide_ground_truth);
3. a training response starts with reward 0 (agent_loop.py), so a missed vote teaches nothing.
"""
