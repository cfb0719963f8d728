# SPDX-License-Identifier: Apache-2.0
"""What the embedded default trains on: generated arithmetic questions and two small models. No verl, ray or vllm."""
