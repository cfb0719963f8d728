# SPDX-License-Identifier: Apache-2.0
# Settings of Llama-3.2-3B-Instruct besides its sizes. Composed and checked by tests, NOT run on a GPU.
# shellcheck shell=bash  # sourced by recipes/train.sh, which reads what is set here
# The chat template writes today's date into every prompt unless it is given one.
OVERRIDES+=("+data.apply_chat_template_kwargs.date_string='26 Jul 2024'")
