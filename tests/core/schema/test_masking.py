"""Arguments as they are written down: no secret in them, and short, whatever was sent."""

import hashlib
from typing import Annotated, Any, Literal

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clonk_core.methods import Method
from clonk_core.plugin import Activation, JsonValue, Secret, method
from clonk_core.schema.masking import Masking
from clonk_core.schema.registry import Registry
from clonk_core.schema.shorten import MASK, shorten

Hidden = Annotated[str, Secret()]
NEEDLE = "planted-secret-of-nobody"


@attrs.frozen(kw_only=True)
class Login:
    """A way in."""

    type: Literal["login"] = "login"
    user: str
    password: Hidden


@attrs.frozen(kw_only=True)
class Link:
    """A way in, with more of them behind it."""

    type: Literal["link"] = "link"
    url: str
    token: Hidden | None = None
    next: "Link | None" = None
    others: tuple["Link", ...] = ()


@attrs.frozen(kw_only=True)
class Plain:
    """Nothing secret."""

    type: Literal["plain"] = "plain"
    token: str


class Vault(Activation):
    """Takes secrets in every shape."""

    namespace = "vault"

    @method()
    async def plain(self, name: str, count: int = 1, rest: JsonValue = None) -> None:
        """Take nothing secret."""

    @method()
    async def put(self, name: str, value: Hidden, count: int = 0, mode: Literal["a", "b"] = "a") -> None:
        """Take one."""

    @method()
    async def nested(
        self,
        note: str = "",
        login: Login | None = None,
        link: Link | None = None,
        many: tuple[Hidden, ...] = (),
        table: dict[str, Hidden] | None = None,
        pair: tuple[str, Hidden] | None = None,
        either: Login | Plain | None = None,
        default: Hidden | None = None,
        anything: JsonValue = None,
    ) -> None:
        """Take many."""


def methods() -> dict[str, Method]:
    registry = Registry()
    registry.add(Vault())
    return {found.name.partition(".")[2]: found for found in registry.methods}


METHODS = methods()


def shown(name: str, params: Any, max_bytes: int = 1024) -> Any:
    return Masking(max_bytes=max_bytes).params(METHODS[name], params)


# ── secrets ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "params", "want"),
    [
        ("put", {"name": "a", "value": "b", "count": 5}, {"name": "a", "value": MASK, "count": 5}),
        ("put", {"name": "a", "value": None}, {"name": "a", "value": None}),
        ("put", {"name": "a", "value": ""}, {"name": "a", "value": MASK}),
        ("put", {"name": "a", "value": {"deep": ["b"]}}, {"name": "a", "value": MASK}),
        ("put", {"name": "a", "value": 1234}, {"name": "a", "value": MASK}),
        # What does not fit may be the secret, in the wrong place.
        ("put", {"name": ["b"], "count": "b"}, {"name": MASK, "count": MASK}),
        ("put", {"mode": "b"}, {"mode": "b"}),
        ("put", {"mode": "secret"}, {"mode": MASK}),
        ("put", {"valeu": "b", "name": "a"}, {"valeu": MASK, "name": "a"}),
        ("put", ["a", "b"], {"name": MASK, "value": MASK}),
        ("put", ["a", "b", 1, "a", "c"], dict.fromkeys(["name", "value", "count", "mode", "[4]"], MASK)),
        ("put", {"x" * 100: "b"}, {"x" * 64 + "…": MASK}),
        ("put", None, {}),
        ("put", {}, {}),
        ("put", [], {}),
        ("nested", {"login": {"user": "u", "password": "p"}}, {"login": {"user": "u", "password": MASK}}),
        ("nested", {"login": "p"}, {"login": MASK}),
        ("nested", {"login": {"user": {"password": "p"}}}, {"login": {"user": MASK}}),
        (
            "nested",
            {"link": {"url": "u", "token": "t", "next": {"url": "u", "token": "t"}, "others": [{"token": "t"}]}},
            {"link": {"url": "u", "token": MASK, "next": {"url": "u", "token": MASK}, "others": [{"token": MASK}]}},
        ),
        ("nested", {"many": ["a", "b", None]}, {"many": [MASK, MASK, None]}),
        ("nested", {"table": {"a": "b"}}, {"table": {"a": MASK}}),
        ("nested", {"pair": ["a", "b"]}, {"pair": ["a", MASK]}),
        # Of two shapes that a value may have, the one that hides counts.
        ("nested", {"either": {"type": "plain", "token": "t"}}, {"either": {"type": "plain", "token": "t"}}),
        ("nested", {"either": {"type": "plain", "password": "p"}}, {"either": {"type": "plain", "password": MASK}}),
        ("nested", {"default": "p"}, {"default": MASK}),
        ("nested", {"anything": {"a": [1]}, "note": "n"}, {"anything": {"a": [1]}, "note": "n"}),
        ("plain", ["a", 2], {"name": "a", "count": 2}),
        ("plain", {"name": {"wrong": 1}, "unknown": "x"}, {"name": {"wrong": 1}, "unknown": "x"}),
    ],
)
def test_secrets_are_masked_and_the_rest_is_shown(name: str, params: Any, want: Any) -> None:
    assert shown(name, params) == want


def test_of_a_method_that_is_not_there_no_argument_is_shown() -> None:
    assert Masking(max_bytes=1000).params(None, {"name": "a", "b": [1]}) == {"name": MASK, "b": MASK}
    assert Masking(max_bytes=1000).params(None, ["a"]) == {"[0]": MASK}


def test_a_plan_is_made_anew_for_another_method_of_the_same_name() -> None:
    masking = Masking(max_bytes=1000)
    assert masking.params(METHODS["put"], {"value": "x"}) == {"value": MASK}
    other = attrs.evolve(METHODS["plain"], name="vault.put")
    assert masking.params(other, {"value": "x"}) == {"value": "x"}


secrets = st.just(NEEDLE) | st.text(max_size=5).map(lambda text: NEEDLE + text)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
harmless = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
wrapped = st.recursive(
    secrets,
    lambda inner: (
        st.lists(inner | harmless, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from(["user", "password", "value", "url", "x"]), inner | harmless, max_size=3)
    ),
    max_leaves=4,
)
link = st.recursive(
    st.fixed_dictionaries({"token": wrapped}),
    lambda inner: st.fixed_dictionaries(
        {"token": wrapped}, optional={"next": inner, "others": st.lists(inner, max_size=2), "url": st.text(max_size=5)}
    ),
    max_leaves=4,
)
PLANTED = {
    "login": st.fixed_dictionaries({"password": wrapped}, optional={"user": st.text(max_size=5)}) | secrets,
    "link": link | secrets,
    "many": st.lists(wrapped, max_size=4) | wrapped.filter(lambda value: not isinstance(value, dict)),
    "table": st.dictionaries(st.text(max_size=5), wrapped, max_size=3) | secrets,
    "pair": st.tuples(st.text(max_size=3), wrapped).map(list) | secrets,
    "either": st.fixed_dictionaries({"password": wrapped}, optional={"type": st.sampled_from(["login", "plain"])}),
    "default": wrapped,
    "passwort": wrapped,
}


@given(
    params=st.fixed_dictionaries({}, optional=PLANTED),
    note=harmless,
    max_bytes=st.sampled_from([0, 20, 100, 1024, 65_536]),
)
def test_a_planted_secret_never_appears(params: dict[str, Any], note: Any, max_bytes: int) -> None:
    text = orjson.dumps(shown("nested", {**params, "note": note}, max_bytes)).decode()
    assert NEEDLE not in text
    assert len(text.encode()) <= max(max_bytes, 16)


@given(values=st.lists(wrapped | harmless, max_size=12))
def test_a_planted_secret_among_arguments_by_position_never_appears(values: list[Any]) -> None:
    for name in ("put", "nested"):
        assert NEEDLE not in orjson.dumps(shown(name, values)).decode()


# ── length ────────────────────────────────────────────────────────────────────


def test_a_short_value_comes_back_as_it_is() -> None:
    value = {"a": [1, 2.5, None, True, "ünï"], "b": {"c": {}}}
    assert shorten(value, 1024) == value


def test_a_long_text_is_told_by_its_size_and_digest() -> None:
    short = shorten({"prompt": "x" * 5000, "name": "first"}, 1024)
    assert short["name"] == "first"
    assert short["prompt"].startswith("xxxx")
    assert short["prompt"].endswith(f"…(5000 bytes, sha256:{hashlib.sha256(b'x' * 5000).hexdigest()[:16]})")


def test_long_and_deep_containers_are_cut() -> None:
    assert shorten(list(range(1000)), 60)[-1].startswith("…")
    assert "…" in shorten({str(number): number for number in range(1000)}, 60)
    deep: Any = "end"
    for _ in range(500):
        deep = [deep]
    assert "end" not in orjson.dumps(shorten(deep, 1024)).decode()


json_like = st.recursive(
    scalars | st.text(max_size=400) | st.integers(min_value=2**70) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(alphabet=st.characters(), max_size=90) | st.integers(), inner, max_size=6)
    ),
    max_leaves=40,
)


@given(value=json_like, max_bytes=st.integers(0, 600))
def test_whatever_comes_is_made_json_of_the_length_allowed(value: Any, max_bytes: int) -> None:
    assert len(orjson.dumps(shorten(value, max_bytes))) <= max(max_bytes, 16)


def test_half_a_surrogate_pair_and_ten_mebibytes_are_no_trouble() -> None:
    params = {"name": "\ud800" * 3, "rest": ["y" * 1_000_000] * 10, "\udfff": 1}
    assert len(orjson.dumps(shown("plain", params))) <= 1024
