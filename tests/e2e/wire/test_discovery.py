"""The contract of the whole server: valid OpenRPC, and every method in it answers on every transport as it says."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry as References
from referencing import Resource
from referencing.jsonschema import DRAFT7

Call = Callable[..., bytes]
META_SCHEMA = json.loads((Path(__file__).parents[2] / "core" / "schema" / "openrpc_meta_schema.json").read_text())

WRONG_VALUES: list[Any] = [None, True, 1.5, -1, 10**30, "", "\u0000", "x" * 100_000, [], [[]], {}, {"": 0}]


async def _discover(peer: Any, call: Call) -> dict[str, Any]:
    document: dict[str, Any] = (await peer.ask(call("rpc.discover")))["result"]
    return document


def _members(schema: Any, key: str) -> Iterator[Any]:
    """Every value of a keyword, at any depth."""
    if isinstance(schema, dict):
        if key in schema:
            yield schema[key]
        for value in schema.values():
            yield from _members(value, key)
    elif isinstance(schema, list):
        for value in schema:
            yield from _members(value, key)


async def test_the_document_is_valid_by_the_public_meta_schema(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        document = await _discover(peer, call)
        served = (await peer.request(method="GET", target="/openrpc.json")).json()
    assert served == document
    draft7 = Resource.from_contents(Draft7Validator.META_SCHEMA, default_specification=DRAFT7)
    references: Any = References().with_resources(
        [("https://meta.json-schema.tools", draft7), ("https://meta.json-schema.tools/", draft7)]
    )
    errors = list(Draft7Validator(META_SCHEMA, registry=references).iter_errors(document))
    assert errors == []
    names = [method["name"] for method in document["methods"]]
    assert len(set(names)) == len(names)
    namespaces = {name.split(".")[0] for name in names}
    assert {"rpc", "auth", "hub", "health", "claudecode", "arbor", "gitsync", "trouble"} <= namespaces


async def test_every_schema_of_it_is_one_and_every_reference_leads_somewhere(open_http: Any, call: Call) -> None:
    async with open_http() as peer:
        document = await _discover(peer, call)
    for method in document["methods"]:
        assert method["summary"], method["name"]
        assert {"x-clonk-streaming", "x-clonk-scope", "x-clonk-durable", "x-clonk-hash"} <= set(method), method["name"]
        assert ("x-clonk-events" in method) == method["x-clonk-streaming"], method["name"]
        for part in [*method["params"], method["result"]]:
            Draft7Validator.check_schema(part["schema"])
            Draft202012Validator.check_schema(part["schema"])
    for reference in _members(document, "$ref"):
        assert reference.startswith("#/"), reference
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]


async def test_hashes_are_the_same_in_every_view(peer: Any, call: Call) -> None:
    document = await _discover(peer, call)
    page = (await peer.ask(call("hub.schema")))["result"]
    info = (await peer.ask(call("hub.info")))["result"]
    raw = {method["name"]: method["hash"] for method in page["methods"]}
    assert raw == {method["name"]: method["x-clonk-hash"] for method in document["methods"]}
    assert page["registry_hash"] == info["registry_hash"]
    one = (await peer.ask(call("hub.schema", {"method": "claudecode.chat"})))["result"]
    assert [method["hash"] for method in one["methods"]] == [raw["claudecode.chat"]]
    space = (await peer.ask(call("hub.schema", {"method": "claudecode"})))["result"]
    assert space["namespaces"] == {"claudecode": page["namespaces"]["claudecode"]}


@pytest.mark.deadline(60)
async def test_every_method_tells_wrong_arguments_by_their_path_and_never_breaks(peer: Any, call: Call) -> None:
    """All are tried: an unknown name, one argument too many, and for each parameter values it hardly wants."""
    for method in (await _discover(peer, call))["methods"]:
        name, names = method["name"], [one["name"] for one in method["params"]]
        if name.startswith("trouble."):
            continue
        for params, path in [({"no_such": 1}, "$.no_such"), ([None] * len(names) + [1], f"$[{len(names)}]")]:
            error = (await peer.ask(call(name, params)))["error"]
            assert (error["code"], error["data"]["kind"]) == (-32602, "invalid_params"), name
            assert error["data"]["path"] in {path, *(f"$.{one}" for one in names)}, (name, params)
        for parameter in names:
            for value in WRONG_VALUES:
                # Together with an unknown name, so that nothing is done where the value happens to fit.
                error = (await peer.ask(call(name, {parameter: value, "no_such": 1})))["error"]
                assert error["data"]["kind"] == "invalid_params", (name, parameter, value)


@pytest.mark.deadline(60)
async def test_every_method_that_needs_no_argument_answers_with_what_its_schema_says(peer: Any, call: Call) -> None:
    document = await _discover(peer, call)
    called = []
    for method in document["methods"]:
        required = [one for one in method["params"] if one.get("required")]
        if required or method["x-clonk-streaming"] or not method.get("x-clonk-read-only", True):
            continue
        if method["name"].startswith("trouble."):
            continue
        answer = await peer.ask(call(method["name"]))
        if "error" in answer:
            assert answer["error"]["data"]["kind"] != "internal", answer
            continue
        schema = {**method["result"]["schema"], "components": document["components"]}
        Draft202012Validator(schema).validate(answer["result"])
        called.append(method["name"])
    assert {"auth.whoami", "hub.info", "hub.plugins", "health.check", "rpc.subscriptions"} <= set(called)
    assert {"claudecode.list", "arbor.tree_list", "gitsync.list"} <= set(called)


@pytest.mark.deadline(60)
async def test_odd_but_well_formed_arguments_break_nothing(peer: Any, call: Call) -> None:
    """Names that do not exist, empty and huge texts: an error of the table, never an incident."""
    document = await _discover(peer, call)
    texts = ["", " ", "\u0000", "../..", "'; drop table sessions; --", "%s%n", "\ud83d\ude00" * 50, "x" * 5000]
    kinds = set()
    for method in document["methods"]:
        required = [one["name"] for one in method["params"] if one.get("required")]
        if method["name"].startswith("trouble.") or not required:
            continue
        for text in texts:
            messages = await peer.stream_messages(call(method["name"], dict.fromkeys(required, text)))
            if "error" in messages[0]:
                kinds.add(messages[0]["error"]["data"]["kind"])
            else:
                takes_any_text = {"arbor.context_search", "arbor.tree_create", "claudecode.create", "claudecode.search"}
                assert method["name"] in takes_any_text, (method["name"], text, messages)
    assert "internal" not in kinds
