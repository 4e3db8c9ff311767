"""How requests are put to an app."""

import pickle

import pytest
from modal_proto import api_pb2

from modal_local.ports import web_server_ports
from modal_local.web.messages import BadRequestError, pairs, parameters, scope, scope_input

SCHEMA = [
    api_pb2.ClassParameterSpec(name="title", type=api_pb2.PARAM_TYPE_STRING, has_default=True, string_default="none"),
    api_pb2.ClassParameterSpec(name="pages", type=api_pb2.PARAM_TYPE_INT),
    api_pb2.ClassParameterSpec(name="open", type=api_pb2.PARAM_TYPE_BOOL, has_default=True, bool_default=True),
]


def read(serialized: bytes) -> dict[str, object]:
    values = api_pb2.ClassParameterSet.FromString(serialized).parameters
    kinds = {api_pb2.PARAM_TYPE_STRING: "string_value", api_pb2.PARAM_TYPE_INT: "int_value"}
    return {one.name: getattr(one, kinds.get(one.type, "bool_value")) for one in values}


def test_a_scope_has_the_path_decoded_and_the_query_as_it_came() -> None:
    found = scope("http", "GET", "/a%20b?x=%20", [(b"X-A", b"1")], ("127.0.0.1", 5))
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/a b", b"/a%20b", b"x=%20")
    assert (found["headers"], found["client"]) == ([(b"x-a", b"1")], ("127.0.0.1", 5))


def test_an_input_holds_the_scope_as_the_only_argument() -> None:
    item = scope_input({"type": "http"}, "index")
    assert pickle.loads(item.args) == (({"type": "http"},), {})  # noqa: S301 - made above
    assert item.method_name == "index"


def test_parameters_of_a_class_come_from_the_query_and_from_defaults() -> None:
    assert read(parameters(SCHEMA, {"pages": "3"})) == {"title": "none", "pages": 3, "open": True}
    assert read(parameters(SCHEMA, {"pages": "-1", "title": "T", "open": "0"})) == {
        "title": "T",
        "pages": -1,
        "open": False,
    }


@pytest.mark.parametrize("query", [{}, {"pages": "many"}, {"pages": "1", "open": "perhaps"}])
def test_a_parameter_that_is_missing_or_of_another_type_is_named(query: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match=r"pages|open"):
        parameters(SCHEMA, query)


def test_headers_come_in_one_row() -> None:
    assert pairs([b"a", b"1", b"a", b"2"]) == [("a", "1"), ("a", "2")]


def test_only_web_servers_have_a_fixed_port() -> None:
    server = api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_WEB_SERVER, web_server_port=8000)
    page = api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_FUNCTION)
    assert web_server_ports(api_pb2.Function(webhook_config=server)) == [8000]
    assert web_server_ports(api_pb2.Function(webhook_config=page)) == []
