# SPDX-License-Identifier: Apache-2.0
import inspect
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from verl.workers.rollout.router import RequestLoadBalancer

from co_rewarding.training.router import CONFIGURATION, REMEMBERED, Router


def router(*servers: str) -> Router:
    return Router({server: f"handle of {server}" for server in servers}, {})


def test_it_answers_every_call_of_verls_protocol() -> None:
    names = [name for name in vars(RequestLoadBalancer) if not name.startswith("_")]
    assert "acquire_server" in names
    for name in names:
        theirs, ours = (inspect.signature(getattr(one, name)).parameters for one in (RequestLoadBalancer, Router))
        assert set(theirs) - {"extra"} == set(ours)  # the fields that require_acquire_fields names


def test_its_process_imports_neither_verl_nor_vllm_nor_torch() -> None:
    found = "import sys; print({'verl', 'vllm', 'torch'} & sys.modules.keys())"
    script = f"import co_rewarding.training.router; {found}"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_verl_finds_it() -> None:
    assert OmegaConf.load(CONFIGURATION).router_class == f"{Router.__module__}.{Router.__name__}"


def test_the_server_with_the_fewest_requests_in_flight_answers() -> None:
    one = router("a", "b")
    assert [one.acquire_server(f"r{i}")[0] for i in range(4)] == ["a", "b", "a", "b"]  # 1 0, 1 1, 2 1, 2 2
    one.release_server("b")
    one.release_server("b")
    assert [one.acquire_server(f"s{i}") for i in range(2)] == [("b", "handle of b")] * 2  # 2 1, 2 2
    assert one.get_total_inflight() == 4
    assert one.get_status()["servers"] == {"a": 2, "b": 2}


def test_a_request_that_comes_again_goes_to_its_server_again() -> None:
    one = router("a", "b")
    assert one.acquire_server("conversation")[0] == "a"
    assert one.acquire_server("conversation")[0] == "a"  # although b has none
    assert one.clear_sticky_cache()["cleared_entries"] == 1
    assert one.acquire_server("conversation")[0] == "b"


def test_it_remembers_the_newest_requests_alone() -> None:
    one = router("a")
    for i in range(REMEMBERED + 5):
        one.acquire_server(f"r{i}")
    assert one.clear_sticky_cache()["cleared_entries"] == REMEMBERED


def test_servers_come_and_go() -> None:
    one = router("a")
    one.acquire_server("r")
    one.add_servers({"b": "handle of b"})
    one.remove_servers(["a", "never there"])
    one.release_server("a")  # its request ends after it
    assert one.get_all_servers() == ["b"] and one.get_total_inflight() == 0
    assert one.acquire_server("r") == ("b", "handle of b")
    one.remove_servers(["b"])
    with pytest.raises(RuntimeError, match="no server"):
        one.acquire_server("r")


def test_a_subclass_may_give_some_requests_to_some_servers() -> None:
    class Split(Router):
        def choices(self, request_id: str) -> list[str]:
            return ["b"] if request_id.startswith("teacher") else ["a"]

    one = Split({"a": "A", "b": "B"}, {})
    assert [one.acquire_server(name)[1] for name in ("teacher-1", "teacher-2", "r")] == ["B", "B", "A"]
